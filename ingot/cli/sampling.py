"""Sampling options of `run` and `chat` to `SamplingParams`.

Options that are not given are not passed on: the defaults are the library's and the model's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ingot.runtime import SamplingParams

MaxTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens to generate.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="0 takes the likeliest token.")]
TopK = Annotated[int | None, typer.Option(min=0, help="Choose among the K likeliest; 0: all.")]
TopP = Annotated[
    float | None, typer.Option(min=0, max=1, help="Choose among the likeliest that sum to P.")
]
MinP = Annotated[
    float | None, typer.Option(min=0, max=1, help="Drop what is less likely than P times the best.")
]
Repetition = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1 discourages seen tokens.")
]
Presence = Annotated[
    float | None, typer.Option("--presence-penalty", help="Taken off tokens already generated.")
]
Frequency = Annotated[
    float | None, typer.Option("--frequency-penalty", help="Taken off for each occurrence.")
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same text.")]
Stop = Annotated[list[str] | None, typer.Option(help="Stop before this text. Repeatable.")]


def make_params(**given: Any) -> SamplingParams:
    """Build the parameters from the options that were given."""
    from ingot.runtime import SamplingParams

    stop = given.pop("stop", None)
    values = {name: value for name, value in given.items() if value is not None}
    if stop:
        values["stop"] = tuple(stop)
    return SamplingParams(**values)
