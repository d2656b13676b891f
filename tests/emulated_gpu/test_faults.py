"""The emulated GPU finds the mistakes of `faults.cu`, and nothing in what is right beside them."""

import json
import re
from pathlib import Path

import pytest

from ingot.compile.cuda.device_code import with_intrinsics
from tests.emulated_gpu.emulator import build_driver, emulate, run_emulated

SOURCE = Path(__file__).with_name("faults.cu").read_text()
EXPECTED = {
    name: message
    for message, name in re.findall(r"^// (.*)\nextern .*\) (\w+)\(", SOURCE, re.MULTILINE)
}

# Launches each kernel in a process of its own, which an error ends, and collects what they print.
LAUNCH = """
import ctypes, json, os, sys
driver, runtime = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libcudart.so.13")
module, said = ctypes.c_void_p(), {}
assert driver.cuModuleLoadData(ctypes.byref(module), sys.argv[1].encode()) == 0
for name in sys.argv[2:]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 2)
        function, out, counter = (ctypes.c_void_p() for _ in range(3))
        assert driver.cuModuleGetFunction(ctypes.byref(function), module, name.encode()) == 0
        for pointer in (out, counter):
            assert runtime.cudaMalloc(ctypes.byref(pointer), 2048) == 0
            ctypes.memset(pointer, 0, 2048)
        blocks = 4 if "block" in name or "counter" in name else 1
        launch = (ctypes.c_uint * 16)(blocks, 1, 1, 64, 1, 1, 4096)
        arguments = (ctypes.c_void_p * 2)(*(ctypes.addressof(it) for it in (out, counter)))
        assert driver.cuLaunchKernelEx(launch, function, arguments, None) == 0
        runtime.cudaDeviceSynchronize()
        os._exit(0)
    os.close(writing)
    said[name] = os.fdopen(reading).read()
    os.wait()
print(json.dumps(said))
"""


def launch(source: str, folder: Path, *names: str) -> dict[str, str]:
    """What the emulated GPU says of each kernel."""
    library = str(emulate(source, folder))
    said: dict[str, str] = json.loads(run_emulated(build_driver(folder), LAUNCH, library, *names))
    return said


def test_faults_are_found(tmp_path: Path) -> None:
    said = launch(with_intrinsics(SOURCE), tmp_path, *EXPECTED)
    for name, message in EXPECTED.items():
        if message.startswith("ok: "):
            assert not said[name], said[name]
        else:
            assert message in said[name], (name, said[name])
            assert f"kernel {name}, block (" in said[name]
    assert re.search(r"kernels-\w+\.cc:\d+", said["misaligned"])


@pytest.mark.parametrize("which", [0, 1])
def test_fences_around_a_counter_are_needed(which: int, tmp_path: Path) -> None:
    """Those of `ingot_is_last`, of which the emulated GPU runs the device's own code."""
    code = with_intrinsics(SOURCE)
    before, *between, after = re.split(r"( *__threadfence\(\);\n)", code)
    assert len(between) == 3
    del between[2 * which]
    said = launch(before + "".join(between) + after, tmp_path, "the_last_block")
    assert "nothing orders the two" in said["the_last_block"]
