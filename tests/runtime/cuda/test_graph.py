"""Which graphs are kept. What they compute and when they are launched: test_cuda_artifact.py."""

from collections import OrderedDict
from typing import Any

from ingot.runtime.cuda.buckets import Bucket
from ingot.runtime.cuda.graph import MAX_BUCKETS, DecodeGraphs, _Decode
from ingot.runtime.cuda.scratch import Scratch


def graphs_of(*sizes: int, limit_bytes: int) -> list[int]:
    """The rows of the buckets that stay, of those that were captured in this order."""
    graphs = DecodeGraphs.__new__(DecodeGraphs)
    graphs._limit_bytes = limit_bytes
    nothing: Any = None
    graphs._graphs = OrderedDict()
    for place, size in enumerate(sizes):
        scratch = Scratch()
        scratch._sizes[place] = size
        graphs._graphs[Bucket(place, 8)] = _Decode(nothing, scratch, nothing, nothing)
        graphs._make_room()
    return [bucket.num_rows for bucket in graphs._graphs]


def test_old_graphs_make_room() -> None:
    assert graphs_of(10, 20, 30, limit_bytes=60) == [0, 1, 2]
    assert graphs_of(10, 20, 30, limit_bytes=50) == [1, 2]
    assert graphs_of(10, 20, 30, 40, limit_bytes=60) == [3]


def test_the_newest_stays() -> None:
    assert graphs_of(10, 20, limit_bytes=5) == [1]


def test_there_are_never_very_many() -> None:
    sizes = [1] * (MAX_BUCKETS + 6)
    assert graphs_of(*sizes, limit_bytes=1000) == list(range(6, MAX_BUCKETS + 6))
