"""`ingot` and `ingot.runtime` export exactly what they say, lazily."""

import importlib
import subprocess
import sys

import pytest

PUBLIC = ["ingot", "ingot.runtime", "ingot.runtime.artifact"]


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_named_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == module.__all__
    for item in module.__all__:
        assert getattr(module, item) is not None
        assert item in dir(module)


@pytest.mark.parametrize("name", ["ingot", "ingot.runtime"])
def test_lazy_names_are_the_exported_ones(name: str) -> None:
    module = importlib.import_module(name)
    assert set(module._HOMES) == {item for item in module.__all__ if not item.startswith("__")}
    with pytest.raises(AttributeError, match="has no attribute 'Motor'"):
        _ = module.Motor


def test_importing_ingot_loads_nothing_else() -> None:
    code = "import sys, ingot; print(*[m for m in sys.modules if m.startswith('ingot.')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
