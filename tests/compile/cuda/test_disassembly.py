"""What is read of a disassembly."""

from pathlib import Path

import pytest

from ingot.compile.cuda import cuda_compiler
from tests.compile.cuda.disassembly import Instructions, disassemble
from tests.compile.cuda.test_compilers import SOURCE, need


def test_names_and_their_modifiers() -> None:
    code = Instructions({"HMMA.16816.F32.BF16": 3, "HMMA.16816.F32": 2, "HMMAX": 9})
    assert (code.of("HMMA"), code.of("HMMA.16816.F32.BF16"), code.of("LDL")) == (5, 3, 0)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_instructions_by_kernel(arch: str, tmp_path: Path) -> None:
    need("nvrtc")
    second = SOURCE[SOURCE.index('extern "C"') :].replace("scale_kernel", "other_kernel")
    code = disassemble(cuda_compiler("nvrtc")(SOURCE + second, arch).cubin, tmp_path)
    assert set(code) == {"scale_kernel", "other_kernel"}
    for kernel in code.values():
        assert kernel.of("LDG") == kernel.of("STS") == kernel.of("LDS") == kernel.of("STG") == 1
        assert kernel.of("BAR.SYNC") == 1 and kernel.of("EXIT") >= 1
        assert kernel.of("HMMA") == kernel.of("LDL") == 0
