"""Memory is read as often as asked, each time all of it."""

import pytest

from ingot.bench.limits import reader
from ingot.bench.limits.measurements import Sizes
from ingot.bench.limits.reader import MemoryReader
from ingot.targets import Target


def test_a_reader_says_how_much_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(_target: Target) -> Sizes:
        return Sizes(1 << 16, 1 << 15, 1 << 14, 1 << 16, 10, 2)

    monkeypatch.setattr(reader, "machine_sizes", tiny)
    read = MemoryReader(1)
    assert read.num_bytes == 1 << 16
    for _ in range(3):
        read()
