"""Names become targets: the best for the machine, exact ones, and a helpful refusal."""

import re

import pytest

from ingot.errors import UsageError
from ingot.targets import Cpu, TargetError, best_cpu_target, load_targets, resolve_target


def make_cpu(*features: str, architecture: str = "x86_64") -> Cpu:
    return Cpu("Example", architecture, frozenset(features), 2)


@pytest.mark.parametrize("name", [n for n in sorted(load_targets()) if n.startswith("cpu:")])
def test_machine_with_exactly_these_features_takes_it(name: str) -> None:
    target = load_targets()[name]
    cpu = make_cpu(*target.features, architecture=target.architecture)
    assert resolve_target("cpu", cpu) == target


def test_unknown_features_change_nothing() -> None:
    target = load_targets()["cpu:cascadelake"]
    assert best_cpu_target(make_cpu(*target.features, "from_the_future")) == target


def test_zen4_code_is_not_for_intel() -> None:
    # LLVM may emit sse4a for znver4, which no Intel CPU has.
    features = set(load_targets()["cpu:znver4"].features) - {"sse4a"}
    assert best_cpu_target(make_cpu(*features)).name == "cpu:cascadelake"


def test_old_cpu_is_refused() -> None:
    with pytest.raises(TargetError, match="no target fits this CPU"):
        resolve_target("cpu", make_cpu("sse2"))


def test_names() -> None:
    assert resolve_target("cuda").name == "cuda:sm_90"
    assert resolve_target("cuda:sm_80").cuda_arch == "sm_80"
    assert resolve_target("cpu:x86-64-v3").llvm_cpu == "x86-64-v3"


def test_several_gpus_are_one_target() -> None:
    both, targets = resolve_target("cuda:sm_90,sm_86,sm_90"), load_targets()
    assert (both.name, both.cuda_arch) == ("cuda:sm_86,sm_90", "sm_86")
    assert both.archs == ("sm_86", "sm_90")
    assert both.shared_memory_bytes == targets["cuda:sm_86"].shared_memory_bytes
    assert resolve_target("cuda:sm_80,sm_80") == targets["cuda:sm_80"]
    assert resolve_target("cuda:sm_80").archs == ("sm_80",)
    assert resolve_target("cpu:x86-64-v3").archs == ()
    assert resolve_target("cuda:sm_90a,sm_90a") == targets["cuda:sm_90a"]
    with pytest.raises(UsageError, match="cuda:sm_90a is compiled alone"):
        resolve_target("cuda:sm_80,sm_90a")
    with pytest.raises(UsageError, match="unknown target 'cuda:sm_81'"):
        resolve_target("cuda:sm_80,sm_81")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cuda:sm90", "did you mean cuda:sm_90?"),
        ("cuda:", "did you mean cuda:sm_90?"),
        ("cuda:sm_75", "sm_80 is the oldest kind of GPU that the kernels run on"),
        ("cuda:sm_91", "a GPU that isn't listed runs code for an older one"),
        ("cuda:sm_80 sm_90", "separated by commas alone: cuda:sm_80,sm_90"),
        ("cpu:znver3", "did you mean cpu:znver4?"),
        ("sm_90", "did you mean cuda:sm_90?"),
        ("gpu", "did you mean cuda?"),
        ("CUDA", "did you mean cuda?"),
        ("?", "`ingot targets` describes them"),
    ],
)
def test_wrong_name_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown target '{re.escape(name)}'") as caught:
        resolve_target(name)
    assert hint in caught.value.hint
    # Those of another kind of machine are of no help.
    assert ("cpu:" in caught.value.message) != name.startswith("cuda:")
