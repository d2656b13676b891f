"""The micro-kernels compute what they say, and every figure comes out, with tiny sizes."""

import numpy as np
import pytest

from ingot.bench.limits import kernels
from ingot.bench.limits.measure import build_library, measure_limits
from ingot.bench.limits.measurements import Measurement, Sizes, peaks
from ingot.runtime.vm import VirtualMachine, aligned_zeros, as_array, as_tensor
from ingot.targets import best_cpu_target, detect_cpu

BEST = best_cpu_target(detect_cpu())
TINY = Sizes(
    memory_bytes=1 << 16,
    l3_bytes=1 << 15,
    l2_bytes=1 << 14,
    cache_traffic_bytes=1 << 16,
    iterations=10,
    repetitions=2,
)


def test_every_figure_is_measured() -> None:
    limits = measure_limits(1, sizes=TINY)
    names = [figure.name for figure in limits.figures]
    assert len(names) == len(set(names))
    for name in ("memory read", "l3 read", "l2 read", "memory copy", "memory write"):
        assert limits.figure(name).unit == "byte/s"
    for name in ("region", "kernel call"):
        assert limits.figure(name).unit == "s"
    for figure in limits.figures:
        assert figure.best > 0 and figure.count >= 2
        assert (figure.best <= figure.median) == (figure.unit == "s") or figure.count == 2
    assert limits.peak("float32", BEST.features).best > 0
    assert limits.peak("int8", BEST.features).best > 0


def test_read_sums_every_element(tmp_path: object) -> None:
    lanes, threads, passes = BEST.float32_lanes, 2, 3
    chunk = 2 * kernels.CHAINS * lanes
    source = aligned_zeros((threads * chunk,), "int32")
    source[...] = np.arange(source.size)
    function = kernels.build_read(threads, chunk, passes, lanes)
    sums = run(function, (source,), (threads, lanes), "int32", tmp_path)
    expected = passes * source.reshape(threads, -1, lanes).sum(axis=1)
    np.testing.assert_array_equal(sums, expected)


def test_copy_copies(tmp_path: object) -> None:
    lanes, threads = BEST.float32_lanes, 2
    source = aligned_zeros((threads * 4 * lanes,), "int32")
    source[...] = np.arange(source.size)
    function = kernels.build_copy(threads, 4 * lanes, lanes)
    np.testing.assert_array_equal(run(function, (source,), source.shape, "int32", tmp_path), source)


@pytest.mark.parametrize("mnemonic", ["fma", "vpdpbusd", "vdpbf16ps", "sdot"])
def test_a_peak_counts_its_operations(mnemonic: str, tmp_path: object) -> None:
    """With operands of ones, an accumulator grows by half the operations of each update."""
    known = [i for i in kernels.instructions(BEST) if i.mnemonic == mnemonic]
    if not known:
        pytest.skip(f"this CPU has no {mnemonic}")
    [measurement] = peaks(BEST, 1, TINY, known)
    starts, operands = measurement.arguments
    operands[...] = {"float32": 0x3F800000, "bfloat16": 0x3F803F80, "int8": 0x01010101}[
        known[0].kind
    ]
    results = run(measurement.function, (starts, operands), starts.shape, known[0].dtype, tmp_path)
    grown = known[0].operations // 2 * TINY.iterations
    np.testing.assert_array_equal(results, starts + grown)
    assert measurement.amount == grown * 2 * starts.size


def run(function, arguments, out_shape, out_dtype, folder):  # type: ignore[no-untyped-def]
    measurement = Measurement("it", "s", 1.0, function, arguments, out_shape, out_dtype, "")
    build_library([measurement], BEST, folder / "it.so")
    vm = VirtualMachine(folder / "it.so", 1)
    return np.array(as_array(vm.call("it", *map(as_tensor, arguments))))
