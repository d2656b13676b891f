"""Which file the emulated driver is given, and what it says of one that it refuses."""

import json
from pathlib import Path

import pytest

from tests.emulated_gpu.emulator import build_driver, run_emulated

ATTACH = """
import sys
from pathlib import Path
from ingot.errors import ArtifactTargetError
from ingot.runtime.cuda import attach_kernels, load_cuda_runtime

class HostCode:  # what `tvm_ffi.load_module` gives, as far as kernels are attached to it
    def __init__(self): self.imports, self.kernels = [self], []
    def import_module(self, module): self.kernels.append(module)

load_cuda_runtime()
host = HostCode()
try:
    attach_kernels(host, Path(sys.argv[1]), sys.argv[2].split(","))
    assert len(host.kernels) == 1
    print("attached")
except ArtifactTargetError as error:
    print(error)
"""

LOADABLE, BROKEN = "libcuda.so.1", "/not-for-this-gpu"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("driver"))


def attach(driver: Path, folder: Path, capability: str, codes: dict[str, str]) -> str:
    """`codes` are the libraries that the files stand for."""
    for name, code in codes.items():
        (folder / name).write_bytes(code.encode() + b"\0")
    (folder / "kernels.json").write_text(json.dumps({"tvm_version": "0", "func_info": {}}))
    return run_emulated(
        driver, ATTACH, str(folder), "sm_80,sm_90", EMULATED_GPU_CAPABILITY=capability
    )


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("80", "kernels-sm_80.cubin"),
        ("86", "kernels-sm_80.cubin"),
        ("90", "kernels-sm_90.cubin"),
        ("100", "kernels-sm_90.ptx"),
    ],
)
def test_only_the_fitting_file_is_loaded(
    driver: Path, tmp_path: Path, capability: str, name: str
) -> None:
    names = ("kernels-sm_80.cubin", "kernels-sm_90.cubin", "kernels-sm_90.ptx")
    codes = {each: LOADABLE if each == name else BROKEN for each in names}
    assert attach(driver, tmp_path, capability, codes) == "attached\n"


def test_the_drivers_compiler_is_quoted(driver: Path, tmp_path: Path) -> None:
    said = attach(driver, tmp_path, "100", {"kernels-sm_90.ptx": BROKEN})
    assert "kernels-sm_90.ptx for this machine's GPU (sm_100): error 218, ptxas: " in said
    assert BROKEN in said
    assert "compile the model again with `--target cuda:sm_100`" in said


def test_nothing_fits(driver: Path, tmp_path: Path) -> None:
    said = attach(driver, tmp_path, "75", {})
    assert "kernels are for sm_80, sm_90 GPUs; this machine has sm_75" in said
