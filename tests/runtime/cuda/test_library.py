"""What a person reads who has the wrong driver, or no more memory on the GPU."""

from pathlib import Path

import pytest

from tests.emulated_gpu.emulator import build_driver, run_emulated

LOAD = """
from ingot.errors import IngotError
from ingot.runtime.cuda import load_cuda_runtime
try:
    load_cuda_runtime()
    print("ok")
except IngotError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("version", "said", "hint"),
    [
        ("13020", "ok", ""),
        (
            "12040",
            "the NVIDIA driver is for CUDA 12.4, and Ingot runs on CUDA 13.0",
            "580 or newer",
        ),
        ("0", "this machine has no NVIDIA driver", "--gpus all"),
    ],
)
def test_driver(version: str, said: str, hint: str, tmp_path: Path) -> None:
    printed = run_emulated(build_driver(tmp_path), LOAD, EMULATED_GPU_DRIVER=version)
    assert printed.startswith(said) and hint in printed


FULL = """
import numpy as np
import pytest
from ingot.errors import IngotError
from ingot.runtime.cuda import CudaMemory, library, memory
from ingot.runtime.cuda.driver import DeviceBuffer

tensors, held, release = CudaMemory(), [], library.release_pool

def release_pool():  # what is held is in a pool of TVM's
    held.clear()
    release()

library.release_pool = memory.release_pool = release_pool
for take in (DeviceBuffer, lambda num_bytes: tensors.empty((num_bytes,), np.uint8)):
    held.append(DeviceBuffer(600_000))
    taken = take(600_000)
    assert not held
    with pytest.raises(IngotError, match="600,000 bytes") as e:
        take(600_000)
    assert "nvidia-smi" in e.value.hint
    del taken
print("ok")
"""


def test_memory_that_tvm_holds_is_asked_for(tmp_path: Path) -> None:
    driver = build_driver(tmp_path)
    assert run_emulated(driver, FULL, EMULATED_GPU_BYTES="1000000") == "ok\n"
