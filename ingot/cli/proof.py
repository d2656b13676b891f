"""The figures of a proof to tables: what `verify` and `inspect` print."""

from __future__ import annotations

from typing import Any

KINDS = ("prefill", "decode", "bound")
FIGURES = {
    "max_error": "largest error of a logit",
    "mean_error": "mean error of the logits",
    "kl_mean": "divergence of the next token's distribution, mean, in nats",
    "kl_max": "the same, the largest",
    "top1": "share of tokens after which both prefer the same one",
}
LAYERS = (
    "error of each layer beside eager that rounds alike: of the best quarter of the tokens, and of "
    "the worst token"
)
WHOLE = "the whole model beside eager in float32"
LAYERS_MISSING = (
    "the proof is of an older Ingot, which didn't compare layer by layer: `ingot verify` makes "
    "it again"
)


def print_proof(figures: dict[str, Any]) -> None:
    """Each layer beside eager that rounds alike; then the model beside eager as it is."""
    from ingot.cli.output import print_fields, print_table

    if "kernels" in figures:
        print(LAYERS)
        columns = [f"{name}, {kind}" for name in ("best", "worst") for kind in KINDS]
        print_table(("", *columns), kernel_rows(figures["kernels"]))
    else:
        print(LAYERS_MISSING)
    print()
    bounds, greedy = figures["bounds"], figures["greedy"]
    rows = [
        (name, figures["prefill"][name], figures["decode"][name], bounds.get(name), meaning)
        for name, meaning in FIGURES.items()
    ]
    print(WHOLE)
    print_table(("", *KINDS, "meaning"), rows)
    print()
    equal, tokens = greedy["equal"], greedy["tokens"]
    same = f"all {tokens} tokens" if equal == tokens else f"the first {equal} of {tokens} tokens"
    print_fields({"greedy text": f"the same as eager's for {same}"})


def kernel_rows(kernels: dict[str, Any]) -> list[tuple[object, ...]]:
    """A row for each layer, and one for the head."""
    columns = [kernels[kind][name] for name in ("best", "worst") for kind in KINDS]
    rows = list(zip(*columns, strict=True))
    names = [*(f"layer {i}" for i in range(len(rows) - 1)), "head"]
    return [(name, *row) for name, row in zip(names, rows, strict=True)]
