"""Every wrong wish is refused in one sentence that names it, its value and what is allowed."""

from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.sampling_params import SamplingParams


def test_defaults_are_greedy() -> None:
    params = SamplingParams()
    assert params.temperature == 0
    assert params.stop_strings == ()


def test_one_stop_string_needs_no_list() -> None:
    assert SamplingParams(stop="\n").stop_strings == ("\n",)


def test_caller_cannot_change_it_later() -> None:
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[2] = 3.0
    assert params.logit_bias == {1: 2.0}


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it is a finite number of at least 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"top_k": -1}, "top_k is -1; it is a whole number from 0 to 2147483647"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"top_k": True}, "top_k is True"),
        ({"top_p": 0}, "top_p is 0; it is a finite number above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; it is a finite number above 0"),
        ({"presence_penalty": float("inf")}, "presence_penalty is inf; it is a finite number"),
        ({"frequency_penalty": None}, "frequency_penalty is None"),
        ({"seed": -1}, "seed is -1"),
        ({"max_tokens": 0}, "max_tokens is 0; it is a whole number from 1"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens is 3, more than max_tokens, 2"),
        ({"logprobs": 21}, "logprobs is 21; it is a whole number from 0 to 20"),
        ({"stop": [""]}, "stop has ''; it holds strings that are not empty"),
        ({"stop": [3]}, "stop has 3"),
        ({"stop": ["a"] * 17}, "stop has 17 strings; at most 16"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids has 'a'"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias has 'a': 1.0; it maps token ids to finite"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias has 1: inf"),
    ],
)
def test_refused(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**wishes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wishes", [{"stop_token_ids": [64]}, {"logit_bias": {-1: 0.0}}])
def test_tokens_are_the_models(wishes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="the model's tokens are 0 to 63"):
        SamplingParams(**wishes).check_vocabulary(64)
