"""TVM's runtime is found and loaded without the `tvm` package, the compiler or torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import ingot.runtime.ffi as ffi
from ingot.errors import IngotError


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_library_is_there() -> None:
    assert (ffi.find_tvm_libraries() / "libtvm_runtime.so").exists()


def test_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffi, "find_spec", lambda name: None)
    with pytest.raises(IngotError, match="TVM's runtime library is not installed"):
        ffi.find_tvm_libraries()


def test_torch_is_hidden_from_tvm_ffi_alone(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("name = 'torch'")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import ingot.runtime.ffi\n"
        "assert 'torch' not in sys.modules\n"
        "import torch; print(torch.name)"
    )
    assert run(code) == "torch\n"


def test_another_thread_may_import_torch_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("name = 'torch'")
    code = (
        f"import sys, threading; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from ingot.runtime.ffi import _hidden\n"
        "def other():\n    import torch; print(torch.name)\n"
        "with _hidden('torch'):\n"
        "    thread = threading.Thread(target=other); thread.start(); thread.join()\n"
    )
    assert run(code) == "torch\n"


def test_beside_tvm(toy_folder: Path) -> None:
    """An artifact runs in a process that has TVM's compiler as well, whichever comes first."""
    engine = (
        "from ingot import Engine, SamplingParams\n"
        f"with Engine({str(toy_folder)!r}, num_pages=4) as engine:\n"
        "    print(engine.generate([[3, 1]], SamplingParams(max_tokens=2))[0].token_ids)\n"
    )
    assert run("import tvm\n" + engine) == run(engine + "import tvm\n")
