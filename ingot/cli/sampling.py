"""Sampling options of `run` and `chat` to `SamplingParams`.

Options that are not given are not passed on: the defaults are the library's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from ingot.runtime.sampling_params import SamplingParams

DEFAULTS = SamplingParams()  # a few numbers; what samples is imported when it does

NUMBERS: dict[str, tuple[type, float | None, float | None, str]] = {
    "temperature": (float, 0, None, "0 takes the likeliest token."),
    "top_k": (int, 0, None, "Choose among the K likeliest; 0: all."),
    "top_p": (float, 0, 1, "Choose among the likeliest that sum to P."),
    "min_p": (float, 0, 1, "Drop what is less likely than P times the best."),
    "repetition_penalty": (float, None, None, "Above 1 discourages seen tokens."),
    "presence_penalty": (float, None, None, "Taken off tokens already generated."),
    "frequency_penalty": (float, None, None, "Taken off for each occurrence."),
}
"""Field -> the option's type, its least and largest value, and what it does."""


def option(kind: Any, text: str, default: object, **settings: Any) -> Any:
    """An option that is None unless given, and whose help says what that means."""
    return Annotated[kind | None, typer.Option(help=f"{text} [default: {default}]", **settings)]


OPTIONS: dict[str, Any] = {
    "max_tokens": option(int, "Most tokens to generate.", "to the context's end", min=1),
    **{
        name: option(kind, text, f"{getattr(DEFAULTS, name):g}", min=low, max=high)
        for name, (kind, low, high, text) in NUMBERS.items()
    },
    "seed": option(int, "Same seed, same text.", "another each time", min=0),
    "stop": option(list[str], "Stop before this text. Repeatable.", "none", metavar="TEXT"),
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

    # eager annotations, which typer wants; verbs import SamplingParams for type checkers alone
    kinds = get_type_hints(verb, localns={"SamplingParams": SamplingParams}, include_extras=True)
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

    given = {name: value for name, value in options.items() if value not in (None, [])}
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    try:
        return SamplingParams(**given)
    except RequestError as error:  # which is what it is to a program: here it is an option
        raise UsageError(error.message, error.hint) from None
