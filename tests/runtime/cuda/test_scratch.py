"""Scratch memory of compiled code that a graph keeps, and TVM's own beside it."""

import subprocess
from pathlib import Path

from tests.emulated_gpu.emulator import build_driver, run_emulated

SCRIPT = """
import ctypes, sys
from pathlib import Path
import ingot.runtime.cuda.scratch
from ingot.errors import IngotError
from ingot.runtime.cuda.driver import CUDA
from ingot.runtime.cuda.library import load_cuda_runtime
from ingot.runtime.cuda.scratch import Scratch, _ALLOCATE, _FREE, _ALLOCATE_NAME, _FREE_NAME

load_cuda_runtime()
path = Path(sys.argv[1])
library = ctypes.CDLL(str(path))
places = [ctypes.c_void_p.in_dll(library, name) for name in (_ALLOCATE_NAME, _FREE_NAME)]
before = [place.value for place in places]
def run(*requests):  # as compiled code does: sizes are asked for, negative ones given back
    given, order = {}, []
    for size in requests:
        if size > 0:
            pointer = _ALLOCATE(places[0].value)(CUDA, 0, size, 0, 8)
            given.setdefault(size, []).append(pointer)
            order.append(pointer)
        else:
            assert _FREE(places[1].value)(CUDA, 0, given[-size].pop()) == 0
    return order
requests = (100, -100, 300, 100, 100, -100, -300, -100, 300, -300)
scratch = Scratch()
with scratch.serves(path):
    assert [place.value for place in places] != before
    first, second = run(*requests), run(*requests)
    host = _ALLOCATE(places[0].value)(1, 0, 64, 0, 8)
    assert host and _FREE(places[1].value)(1, 0, host) == 0
assert [place.value for place in places] == before
assert first == second
# A block is used again where its size is asked for again.
assert first[0] == first[2] and first[1] == first[4] and len(set(first)) == 3
assert scratch.num_bytes == 500

# Where the GPU has no more, compiled code gets nothing and fails; the reason is what is raised.
def refuse(num_bytes): raise IngotError(f"no {num_bytes} bytes")
ingot.runtime.cuda.scratch.DeviceBuffer = refuse
try:
    with scratch.serves(path):
        assert _ALLOCATE(places[0].value)(CUDA, 0, 700, 0, 8) is None
        raise RuntimeError("out of memory")
except IngotError as error:
    assert error.args[0] == "no 700 bytes", error.args
assert [place.value for place in places] == before
print("ok")
"""


LIBRARY = """
#include <stdint.h>
#include <stdlib.h>
static void *allocate(int type, int device, uint64_t size, int code, int bits) {
  return malloc(size);
}
static int release(int type, int device, void *memory) { free(memory); return 0; }
void *__TVMBackendAllocWorkspace = allocate, *__TVMBackendFreeWorkspace = release;
"""


def test_scratch(tmp_path: Path) -> None:
    driver = build_driver(tmp_path)
    source, library = tmp_path / "code.c", tmp_path / "code.so"
    source.write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    assert run_emulated(driver, SCRIPT, str(library)) == "ok\n"
