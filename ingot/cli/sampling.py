"""Sampling options of `run` and `chat` to `SamplingParams`.

Options that are not given are not passed on: the defaults are the library's and the model's own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from ingot.runtime import SamplingParams

OPTIONS: dict[str, Any] = {
    "max_tokens": Annotated[int | None, typer.Option(min=1, help="Most tokens to generate.")],
    "temperature": Annotated[
        float | None, typer.Option(min=0, help="0 takes the likeliest token.")
    ],
    "top_k": Annotated[
        int | None, typer.Option(min=0, help="Choose among the K likeliest; 0: all.")
    ],
    "top_p": Annotated[
        float | None, typer.Option(min=0, max=1, help="Choose among the likeliest that sum to P.")
    ],
    "min_p": Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Drop what is less likely than P times the best."),
    ],
    "repetition_penalty": Annotated[
        float | None, typer.Option(help="Above 1 discourages seen tokens.")
    ],
    "presence_penalty": Annotated[
        float | None, typer.Option(help="Taken off tokens already generated.")
    ],
    "frequency_penalty": Annotated[
        float | None, typer.Option(help="Taken off for each occurrence.")
    ],
    "seed": Annotated[int | None, typer.Option(help="Same seed, same text.")],
    "stop": Annotated[list[str] | None, typer.Option(help="Stop before this text. Repeatable.")],
}
"""Field of `SamplingParams` -> the option that sets it."""


def takes_sampling(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options above; it gets them as its keyword argument `params`.

    typer reads a function's signature, so the options are written into it, after the arguments.
    """

    @functools.wraps(verb)
    def parse(**values: Any) -> None:
        given = {name: values.pop(name) for name in OPTIONS}
        verb(**values, params=make_params(given))

    # eager annotations, which typer wants; SamplingParams is imported for type checkers alone
    kinds = get_type_hints(verb, localns={"SamplingParams": Any}, include_extras=True)
    own = [
        parameter.replace(annotation=kinds[parameter.name])
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.name != "params"
    ]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in OPTIONS.items()
    ]
    arguments = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    rest = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]
    signature = inspect.Signature([*arguments, *options, *rest])
    parse.__signature__ = signature  # type: ignore[attr-defined]
    parse.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return parse


def make_params(options: dict[str, Any]) -> SamplingParams:
    """Build the parameters from the options that were given."""
    from ingot.errors import RequestError, UsageError
    from ingot.runtime import SamplingParams

    given = {name: value for name, value in options.items() if value not in (None, [])}
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    try:
        return SamplingParams(**given)
    except RequestError as error:  # which is what it is to a program: here it is an option
        raise UsageError(error.message, error.hint) from None
