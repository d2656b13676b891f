"""Wishes about a request that make no sense are one sentence."""

import math
from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.request_options import RequestOptions


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"priority": 1.5}, "priority is 1.5; it is a whole number"),
        ({"priority": True}, "priority is True"),
        ({"timeout_s": 0}, "timeout_s is 0; it is a finite number above 0"),
        ({"timeout_s": math.inf}, "timeout_s is inf"),
        ({"timeout_s": math.nan}, "timeout_s is nan"),
        ({"timeout_s": "1"}, "timeout_s is '1'"),
        ({"cache_salt": 3}, "cache_salt is 3; it is a string"),
    ],
)
def test_refused(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        RequestOptions(**wishes)


def test_accepted() -> None:
    options = RequestOptions(priority=-3, timeout_s=0.5, prefix_cache=False, cache_salt="me")
    assert options != RequestOptions()
