"""The figures of a proof to tables: what `verify` and `inspect` print."""

from __future__ import annotations

from typing import Any

FIGURES = ("max_error", "mean_error", "kl_mean", "kl_max", "top1")
OLD = (
    "the proof is of an older Ingot, which didn't compare layer by layer: `ingot verify` makes "
    "it again"
)


def print_proof(figures: dict[str, Any]) -> None:
    """Each layer beside eager that rounds alike; then the model beside eager as it is."""
    from ingot.cli.output import print_fields, print_table

    if "kernels" in figures:
        columns = ("best quarter", "decode", "bound", "worst token", "decode", "bound")
        print_table(("beside eager that rounds alike", *columns), kernel_rows(figures["kernels"]))
    else:
        print(OLD)
    print()
    bounds, greedy = figures["bounds"], figures["greedy"]
    rows = [
        (name, figures["prefill"][name], figures["decode"][name], bounds.get(name))
        for name in FIGURES
    ]
    print_table(("beside eager in float32", "prefill", "decode", "bound"), rows)
    print()
    equal, tokens = greedy["equal"], greedy["tokens"]
    same = f"all {tokens} tokens" if equal == tokens else f"the first {equal} of {tokens} tokens"
    print_fields({"greedy text": f"the same as eager's for {same}"})


def kernel_rows(kernels: dict[str, Any]) -> list[tuple[object, ...]]:
    """One a layer, the head last."""
    kinds = ("prefill", "decode", "bound")
    columns = [kernels[kind][name] for name in ("best", "worst") for kind in kinds]
    rows = list(zip(*columns, strict=True))
    names = [*(f"layer {i} error" for i in range(len(rows) - 1)), "head error"]
    return [(name, *row) for name, row in zip(names, rows, strict=True)]
