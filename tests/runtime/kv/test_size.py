"""The size of the KV cache: what was asked for, and what fits the device's memory."""

import os
from types import ModuleType

import pytest

from ingot.errors import IngotError, UsageError
from ingot.runtime.kv import size
from ingot.runtime.kv.size import Load, Room, choose_num_pages, device_room


def test_num_pages(toy: ModuleType) -> None:
    manifest = toy.toy_manifest()  # a page takes 16 * 2 * 4 bytes; a context 16 pages
    assert choose_num_pages(Load(manifest, 64, 64), 5, None) == 5
    assert choose_num_pages(Load(manifest, 64, 64), None, 1300) == 10
    assert choose_num_pages(Load(manifest, 3, 64), None, None) == 48
    for pages, memory, message in [
        (5, 1300, "num_pages and kv_memory_bytes are both given"),
        (0, None, "num_pages is 0; it is 1 to"),
        (1 << 50, None, "which takes all of the memory"),
        (None, 127, "kv_memory_bytes is 127; it is 128, one page of this model, to"),
        (None, 1 << 50, "all of the memory"),
    ]:
        with pytest.raises(UsageError, match=message):
            choose_num_pages(Load(manifest, 64, 64), pages, memory)


def test_default_is_at_most_a_quarter_of_the_memory(toy: ModuleType) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = Load(toy.toy_manifest(), 1 << 50, 1 << 50)
    assert choose_num_pages(load, None, None) == memory // 4 // 128


def test_at_least_one_page(toy: ModuleType) -> None:
    load = Load(toy.toy_manifest(), 1, 64)
    assert choose_num_pages(load, None, None, lambda _: Room(200, 50)) == 1


def test_a_gpu_is_asked_for_its_own_memory(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = {"name": "E", "dtype": "uint8", "shape": [10_000], "file": "w", "offset": 0}
    weights = [weight | {"bytes": 10_000, "sha256": "0" * 64}]
    target = {"name": "cuda:sm_90", "kind": "cuda", "page_size_tokens": 16, "cuda_arch": "sm_90"}
    manifest = toy.toy_manifest(target=target, weights=weights)
    monkeypatch.setattr(size, "free_device_memory_bytes", lambda: 10_000 + 128 * 100)
    assert choose_num_pages(Load(manifest, 1 << 50, 64), None, None) == 90
    assert choose_num_pages(Load(manifest, 1, 64), 100, None) == 100
    with pytest.raises(UsageError, match="num_pages is 101; it is 1 to 100"):
        choose_num_pages(Load(manifest, 1, 64), 101, None)
    # What a step computes in is left free, and a draft model has weights and pages of its own.
    step = manifest.step.model_copy(update={"workspace": {"step": {"n": 20, "m": 0}}})
    busy = manifest.model_copy(update={"step": step})
    assert choose_num_pages(Load(busy, 1 << 50, 64), None, None) == 81
    draft = toy.toy_manifest(target=target, weights=[weight | {"bytes": 1280, "sha256": "0" * 64}])
    assert choose_num_pages(Load(manifest, 1 << 50, 64, draft), None, None) == 40


def test_weights_that_fill_the_gpu() -> None:
    with pytest.raises(
        IngotError, match="weights and a step take 3.0 GB, and 2.5 GB of the GPU's memory"
    ):
        device_room(2_500_000_000, 3_000_000_000)
