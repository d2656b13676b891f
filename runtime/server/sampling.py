"""Turns the fields of a request's body into the engine's sampling parameters and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.errors import RequestError
from ingot.runtime.constraints import (
    Choice,
    Constraint,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
)
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.schemas.chat import ResponseFormat
from ingot.runtime.server.schemas.sampling import SamplingBody

# What a request leaves open, when the model's generation config says nothing either: OpenAI's.
DEFAULT_TEMPERATURE = 1.0
# Fields of the generation config that are defaults here; `transformers` writes the same names.
CONFIG_DEFAULTS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
# Fields that are named alike in a body and in SamplingParams.
SAME_NAMES = (
    "temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "stop", "stop_token_ids", "min_tokens", "ignore_eos",
)  # fmt: skip


def read_defaults(generation_config: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling that the model's makers recommend."""
    if generation_config.get("do_sample") is False:
        return {"temperature": 0.0}
    found = {name: generation_config.get(name) for name in CONFIG_DEFAULTS}
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    defaults: dict[str, Any] = {"temperature": DEFAULT_TEMPERATURE, **numbers}
    SamplingParams(**defaults)  # raises if the file says something impossible
    return defaults


def make_params(
    body: SamplingBody,
    defaults: Mapping[str, Any],
    *,
    max_tokens: int | None,
    constraint: Constraint | None,
    **more: Any,
) -> SamplingParams:
    """`more` are parameters that the endpoints name differently."""
    fields: dict[str, Any] = dict(defaults)
    for name in SAME_NAMES:
        value = getattr(body, name)
        if value is not None:
            fields[name] = value
    if body.top_k is not None:
        fields["top_k"] = max(body.top_k, 0)  # -1 is "all" elsewhere
    if body.seed is not None:
        fields["seed"] = body.seed % 2**64
    if body.logit_bias:
        fields["logit_bias"] = read_logit_bias(body.logit_bias)
    if body.n is not None:
        fields["n"] = body.n
    if constraint is not None:
        fields["constraint"] = constraint
    fields |= {name: value for name, value in more.items() if value is not None}
    return SamplingParams(max_tokens=max_tokens, **fields)


def read_logit_bias(bias: Mapping[str, float]) -> dict[int, float]:
    tokens: dict[int, float] = {}
    for name, value in bias.items():
        if not (name.isascii() and name.isdecimal() and len(name) <= 10):
            raise bad_request(f"logit_bias has {name[:40]!r}; its keys are token ids", "logit_bias")
        tokens[int(name)] = value
    return tokens


def make_options(
    body: SamplingBody, key_name: str, request_timeout_s: float | None
) -> RequestOptions:
    """Requests of different API keys share no cached pages: the time to a first token would tell
    one what another has asked."""
    given = (body.timeout_s, request_timeout_s)
    timeout_s = min((timeout for timeout in given if timeout is not None), default=None)
    return RequestOptions(
        priority=body.priority or 0,
        timeout_s=timeout_s,
        prefix_cache=body.prefix_cache is not False,
        cache_salt=f"{key_name}/{body.cache_salt or ''}",
    )


def read_constraint(
    body: SamplingBody, response_format: ResponseFormat | None = None
) -> Constraint | None:
    """The one wish about the output's form that a request may have."""
    found: list[tuple[str, Constraint]] = []
    if response_format is not None and response_format.type == "json_object":
        found.append(("response_format", JsonObject()))
    if response_format is not None and response_format.type == "json_schema":
        if response_format.json_schema is None:
            raise bad_request("response_format.json_schema is missing", "response_format")
        schema = response_format.json_schema.schema_
        found.append(("response_format", _checked("response_format", JsonSchema, schema)))
    kinds: tuple[tuple[str, Any], ...] = (
        ("guided_json", JsonSchema),
        ("guided_regex", Regex),
        ("guided_choice", Choice),
        ("guided_grammar", Grammar),
    )
    for name, kind in kinds:
        value = getattr(body, name)
        if value is not None:
            found.append((name, _checked(name, kind, value)))
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise bad_request(f"{names} are both given; the output has one form", found[1][0])
    return found[0][1] if found else None


def _checked(name: str, kind: Any, value: Any) -> Constraint:
    try:
        constraint: Constraint = kind(value)
    except RequestError as error:
        raise bad_request(str(error), name) from None
    return constraint
