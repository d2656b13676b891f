"""Compiled functions take arrays where they lie, keep them alive, and share the machine."""

import gc
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.errors import ArtifactCorruptError, UsageError
from ingot.runtime.ffi import tvm_ffi
from ingot.runtime.vm import (
    ALIGNMENT,
    HostMemory,
    VirtualMachine,
    aligned_zeros,
    as_array,
    as_tensor,
    available_cpus,
    zeros_side_by_side,
)
from ingot.runtime.workspace import Workspace


@pytest.fixture(scope="module")
def machine(toy_folder: Path) -> VirtualMachine:
    return VirtualMachine(toy_folder / "model.so", num_threads=1)


def step_arguments(
    machine: VirtualMachine,
    toy: ModuleType,
    tokens: list[int],
    num_pages: int = 4,
    logit_rows: Sequence[int] = (),
) -> list[Any]:
    count = len(tokens)
    rows = logit_rows or [count - 1]
    page_table = np.arange(num_pages)[None, ::-1]
    places = np.arange(count)
    slots = page_table[0, places // toy.PAGE] * toy.PAGE + places % toy.PAGE
    arrays = [tokens, places, slots, page_table, [0, count], [count], rows]
    pools = [aligned_zeros((num_pages, 1, toy.PAGE), np.float32)]
    pools.append(aligned_zeros((num_pages, toy.PAGE, 1), np.float32))
    weights = aligned_zeros((toy.VOCAB, toy.VOCAB), np.float32)
    weights[:] = toy.toy_weights()
    inputs = HostMemory().lend([np.array(array, np.int32) for array in arrays])
    tuples = [tvm_ffi.Array([as_tensor(a) for a in group]) for group in (pools, [weights])]
    dimensions = {"n": count, "m": len(rows)}
    workspace = Workspace(machine, {"step": {"m": 4 * toy.VOCAB}}, dimensions)
    return [*inputs, *tuples, *workspace.views("step", dimensions)]


def test_step(machine: VirtualMachine, toy: ModuleType) -> None:
    arguments = step_arguments(machine, toy, [3, 1, 4] * 11)
    gc.collect()  # the tensors hold the only references to their arrays
    logits = as_array(machine.call("step", *arguments))
    np.testing.assert_allclose(logits, [toy.toy_logits([3, 1, 4] * 11)], rtol=1e-5, atol=1e-5)


def test_unknown_function(machine: VirtualMachine) -> None:
    with pytest.raises(AttributeError, match="leap"):
        machine.call("leap")


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 3), (64,)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint16"])
def test_buffers_are_aligned(shape: tuple[int, ...], dtype: str) -> None:
    array = aligned_zeros(shape, dtype)
    assert array.shape == shape and array.dtype == dtype
    assert array.ctypes.data % ALIGNMENT == 0 or not array.size
    as_tensor(array)
    values = (array + 3).astype(dtype)
    first, second = HostMemory().lend([values, values[..., None]])
    np.testing.assert_array_equal(as_array(first), values)
    assert second.shape == (*shape, 1)


def test_tensors_of_one_buffer_do_not_overlap() -> None:
    arrays = zeros_side_by_side([((3,), np.uint8), ((0, 2), np.float32), ((5, 7), np.uint16)])
    for number, array in enumerate(arrays, 1):
        assert array.ctypes.data % ALIGNMENT == 0 or not array.size
        array[...] = number
    assert [np.unique(array).tolist() for array in arrays] == [[1], [], [3]]


def test_a_misaligned_buffer_is_refused() -> None:
    with pytest.raises(AssertionError, match="misaligned"):
        as_tensor(aligned_zeros((32,), np.int32)[1:])
    with pytest.raises(AssertionError, match="misaligned"):
        as_tensor(aligned_zeros((32, 32), np.int32).T[:, :16])


def test_wrong_arguments_raise_and_do_not_crash(machine: VirtualMachine, toy: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="expects 10 arguments"):
        machine.call("step", *step_arguments(machine, toy, [1])[:-1])


@pytest.mark.parametrize("num_threads", [0, -1, 4096])
def test_thread_counts(toy_folder: Path, num_threads: int) -> None:
    with pytest.raises(UsageError, match=f"num_threads is {num_threads}; this process may use 1"):
        VirtualMachine(toy_folder / "model.so", num_threads)


def test_threads_of_each_calling_thread(toy_folder: Path, toy: ModuleType) -> None:
    """TVM has a pool for each calling thread; each gets the number that was asked for."""
    from ingot.runtime.ffi import tvm_ffi

    counts = []

    def call(num_threads: int) -> None:
        machine = VirtualMachine(toy_folder / "model.so", num_threads)
        machine.call("step", *step_arguments(machine, toy, [1]))
        counts.append(tvm_ffi.get_global_func("runtime.NumThreads")())

    wanted = list(range(1, len(available_cpus()) + 1))
    for num_threads in wanted:
        thread = threading.Thread(target=call, args=[num_threads])
        thread.start()
        thread.join()
    assert counts == wanted


def test_other_threads_run_meanwhile(machine: VirtualMachine, toy: ModuleType) -> None:
    """The GIL is not held while compiled code runs: a counter goes on counting."""
    count = 2048
    arguments = step_arguments(  # every row's logits: much work
        machine, toy, [1] * count, num_pages=count // toy.PAGE, logit_rows=range(count)
    )
    done = threading.Event()
    ticks: list[float] = []

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0001)

    def count_ticks_of_a_call() -> int:
        start = time.perf_counter()
        machine.call("step", *arguments)
        end = time.perf_counter()
        return sum(start < tick < end for tick in ticks)

    thread = threading.Thread(target=tick)
    thread.start()
    # were the GIL held, the other thread would get it once, between the code's return and `end`
    counts = (count_ticks_of_a_call() for _ in range(20))  # for a machine with other work
    assert any(count >= 5 for count in counts)
    done.set()
    thread.join()


@pytest.mark.parametrize("data", [b"", b"\x7fELF but not really"])
def test_broken_code(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.so").write_bytes(data)
    with pytest.raises(ArtifactCorruptError, match=r"model\.so can't be loaded"):
        VirtualMachine(tmp_path / "model.so", 1)


def test_like_arrays_are_lent_in_the_same_place() -> None:
    memory = HostMemory()
    first = memory.lend([np.arange(5, dtype=np.int32), np.ones(3, np.float32)])
    second = memory.lend([np.arange(1, 6, dtype=np.int32), np.zeros(3, np.float32)])
    assert [memory.read(tensor).tolist() for tensor in second] == [[1, 2, 3, 4, 5], [0, 0, 0]]
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(first, second, strict=True))
    for length in range(200):  # what is kept is bounded, and never mixed up
        (tensor,) = memory.lend([np.full(length, length, np.int32)])
        assert memory.read(tensor).tolist() == [length] * length
    third = memory.lend([np.arange(5, dtype=np.float32), np.ones(3, np.int32)])
    assert memory.read(third[0]).dtype == np.float32, "of another type"


def test_rows_are_copied_in_place() -> None:
    memory = HostMemory()
    [tensor] = memory.empty_all([((3, 2, 2), np.uint16)])
    memory.read(tensor)[...] = np.arange(12).reshape(3, 2, 2)
    memory.copy_rows(tensor, [(2, 0), (1, 2)])
    assert memory.read(tensor).reshape(3, 4).tolist() == [
        [8, 9, 10, 11],
        [4, 5, 6, 7],
        [4, 5, 6, 7],
    ]
