"""Which graphs are kept. What they compute and when they are launched: test_cuda_artifact.py."""

from collections import OrderedDict
from typing import Any

from ingot.runtime.cuda.buckets import Bucket
from ingot.runtime.cuda.capture import Captured
from ingot.runtime.cuda.graph import DecodeGraphs, _Decode
from ingot.runtime.cuda.scratch import Scratch


def graphs_of(*sizes: int, limit_bytes: int) -> list[int]:
    """The rows of the buckets that stay, of those that were captured in this order."""
    graphs = DecodeGraphs.__new__(DecodeGraphs)
    graphs._limit_bytes = limit_bytes
    nothing: Any = None
    graphs._graphs = OrderedDict()
    for place, size in enumerate(sizes):
        to_logits = Captured(nothing, nothing, [], size - 1)
        to_tokens, to_changed = (Captured(nothing, nothing, [], part) for part in (1, 0))
        parts = to_logits, to_tokens, to_changed
        graphs._graphs[Bucket(place, 8)] = _Decode(place, nothing, nothing, Scratch(), *parts)
        graphs._make_room()
    return [bucket.num_rows for bucket in graphs._graphs]


def test_old_graphs_make_room() -> None:
    assert graphs_of(10, 20, 30, limit_bytes=60) == [0, 1, 2]
    assert graphs_of(10, 20, 30, limit_bytes=50) == [1, 2]
    assert graphs_of(10, 20, 30, 40, limit_bytes=60) == [3]


def test_the_newest_stays() -> None:
    assert graphs_of(10, 20, limit_bytes=5) == [1]


def test_there_are_never_very_many() -> None:
    assert graphs_of(*70 * [1], limit_bytes=100) == list(range(6, 70))
