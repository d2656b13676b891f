"""The figures of a proof to a table: what `verify` and `inspect` print."""

from __future__ import annotations

from typing import Any

FIGURES = ("max_error", "mean_error", "kl_mean", "kl_max", "top1")


def print_proof(figures: dict[str, Any]) -> None:
    """One row a figure with its bound, then one a layer."""
    from ingot.cli.output import print_fields, print_table

    bounds, greedy = figures["bounds"], figures["greedy"]
    rows = [
        (name, figures["prefill"][name], figures["decode"][name], bounds.get(name))
        for name in FIGURES
    ]
    layers = zip(figures["prefill"]["layer_errors"], figures["decode"]["layer_errors"], strict=True)
    rows += [(f"layer {i} error", *errors, None) for i, errors in enumerate(layers)]
    print_table(("compiled against eager", "prefill", "decode", "bound"), rows)
    print()
    equal, tokens = greedy["equal"], greedy["tokens"]
    same = f"all {tokens} tokens" if equal == tokens else f"the first {equal} of {tokens} tokens"
    print_fields({"greedy text": f"the same as eager's for {same}"})
