"""An artifact for a GPU: made without one, proven where there is one (here an emulated one)."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingot.compile import pipeline
from ingot.compile.api import compile_model
from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact import load_artifact
from ingot.runtime.artifact.manifest import device_code_names
from tests.compile.conftest import MakeCheckpoint, write_checkpoint
from tests.emulated_gpu.counts import Counts
from tests.emulated_gpu.emulator import build_driver, compile_source, environment

ROOT = Path(__file__).resolve().parents[2]


def test_compiles_without_a_gpu(tiny_llama: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("the extra `nvrtc` is not installed")
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        target = "cuda:sm_90,sm_80"
        manifest = compile_model(str(tiny_llama), target=target, quant="w4", out=out).manifest
    assert manifest.proof.status == "pending"
    assert manifest.target.cuda_arch == "sm_80"
    assert manifest.target.cuda_archs == ("sm_80", "sm_90")
    code = {"kernels-sm_80.cubin", "kernels-sm_90.cubin", "kernels-sm_90.ptx", "kernels.json"}
    assert set(device_code_names(manifest.target.cuda_archs)) == code
    assert {file.path for file in manifest.files} >= {"model.so", *code}
    assert b".target sm_90" in (out / "kernels-sm_90.ptx").read_bytes()
    launched = json.loads((out / "kernels.json").read_text())["func_info"]
    for arch in ("sm_80", "sm_90"):
        assert {k.name for k in manifest.kernels if k.arch == arch} == set(launched)
    assert all(kernel.spill_bytes == 0 for kernel in manifest.kernels)
    (combine, _) = [k for k in manifest.kernels if k.name == "paged_attention_kernel_1"]
    assert combine.grid == ("n * 4",) and combine.threads == 4 * 32
    for file in sorted(outs[0].iterdir()):
        assert file.read_bytes() == (outs[1] / file.name).read_bytes(), file.name
    with pytest.raises(ArtifactTargetError, match="needs an NVIDIA GPU .sm_80.; this machine has"):
        load_artifact(out)


@pytest.fixture(scope="module")
def emulated(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An artifact for an emulated GPU, and its driver."""
    folder = tmp_path_factory.mktemp("emulated")
    artifact, driver = folder / "artifact", build_driver(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pipeline, "cuda_compiler", lambda _: lambda source, _: compile_source(source, folder)
        )
        compile_model(str(tiny_llama), target="cuda", quant="f16", out=artifact, prove=False)
    return artifact, driver


def run_script(name: str, emulated: tuple[Path, Path], **variables: str) -> dict[str, Any]:
    """What one of the scripts prints."""
    artifact, driver = emulated
    done = subprocess.run(
        [sys.executable, "-m", f"tests.emulated_gpu.{name}", artifact],
        env=environment(driver, **variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def decode(emulated: tuple[Path, Path], **variables: str) -> dict[str, Any]:
    """The tokens of a batch, and what each step asked of the emulated GPU."""
    result = run_script("decode", emulated, **variables)
    result["steps"] = [Counts(*step) for step in result["steps"]]
    return result


ALONE = Counts(
    launches=0,
    graph_launches=2,
    copies_in=2,
    copies_out=1,
    other_copies=0,
    allocations=0,
    waits=1,
)
"""A step of graphs that nothing was prepared for."""


def test_a_step_that_decodes_is_two_graphs(emulated: tuple[Path, Path]) -> None:
    one_by_one = decode(emulated, INGOT_CUDA_GRAPHS="off")
    done_bytes, total_bytes = one_by_one["sent"][-1]
    assert done_bytes == total_bytes > 0
    assert one_by_one["heavy"] == []  # neither torch nor a compiler
    # A copy for the step and one for the sampling; only the tokens are waited for.
    for step in one_by_one["steps"][4:]:
        assert (step.graph_launches, step.copies_in, step.copies_out, step.waits) == (0, 2, 1, 1)
    # A GPU that came later runs the assembly of the artifact.
    graphs = decode(emulated, EMULATED_GPU_CAPABILITY="100")
    assert graphs["tokens"] == one_by_one["tokens"]
    prefill, first, *decoded = graphs["steps"]
    assert prefill.graph_launches == 0
    # Every bucket was captured when the artifact was loaded. What comes first is not foreseen, nor
    # is anything after it: the logits and the tokens.
    assert first == ALONE
    # Then the tokens and the next step's logits, made of tokens that stay where they are. The
    # second step, and those after a row has fallen away, have their own logits to make before.
    steady = replace(ALONE, other_copies=1)
    starting = replace(steady, graph_launches=3, copies_in=3)
    # After 6 tokens four rows are three, after 8 they are two, after 13 one.
    # The next token's page is there before: a row that comes to its second one changes nothing.
    four, three = [starting, *3 * [steady]], [ALONE, starting]
    two, one = [ALONE, starting, *3 * [steady]], [ALONE, starting, steady]
    assert decoded == [*four, *three, *two, *one]


def test_wishes_are_graphs_of_their_own(emulated: tuple[Path, Path]) -> None:
    """Penalties, masks and log-probabilities: as without graphs, and what a step asks for."""
    one_by_one = run_script("wishes", emulated, INGOT_CUDA_GRAPHS="off")
    graphs = run_script("wishes", emulated)
    plain = replace(ALONE, other_copies=1)
    lists, masks = replace(plain, graph_launches=3, copies_in=4), replace(plain, graph_launches=3)
    expected = {
        "penalties": lists,  # one copy for what rows have, one for the lists
        "masks": replace(masks, copies_in=3),
        # Logits are kept aside; what is found comes beside the tokens.
        "logprobs": replace(plain, graph_launches=3, copies_in=3, copies_out=2, other_copies=2),
        "all": replace(lists, graph_launches=4, copies_out=2, other_copies=2),
    }
    for name, case in graphs.items():
        assert case["tokens"] == one_by_one[name]["tokens"], name
        # Worked out on the host there.
        ours, theirs = (np.array(run[name]["logprobs"]) for run in (graphs, one_by_one))
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)
        if name in expected:
            # The first reads the prompts, the two after it foresee nothing. All graphs were
            # captured when the artifact was loaded.
            _, *decoded = [Counts(*step) for step in case["steps"]]
            assert set(decoded[2:]) == {expected[name]}, name
            assert all(step.launches == step.allocations == 0 for step in decoded), name
            assert case["misses"] == 0
    assert len(graphs["all"]["logprobs"]) == 7 * (21 + 1)
    # What is too long for the buffers runs kernel by kernel, and is counted.
    too_many = graphs["too many"]
    assert too_many["misses"] == one_by_one["too many"]["misses"] + 6 == 6
    assert all(Counts(*step).graph_launches == 0 for step in too_many["steps"])


def test_proposed_tokens_are_graphs(emulated: tuple[Path, Path]) -> None:
    one_by_one = run_script("propose", emulated, INGOT_CUDA_GRAPHS="off")
    graphs = run_script("propose", emulated)
    assert graphs["tokens"] == one_by_one["tokens"]
    prompts, *steps = [Counts(*step) for step in graphs["steps"]]
    assert prompts.graph_launches == 0
    # However many tokens are proposed; nothing is foreseen.
    assert steps == [ALONE] * len(steps)
    # A prompt that is longer than all before takes scratch memory at most, others nothing.
    _, *shorter = graphs["allocations"]
    assert shorter == [0, 0]


# Integer weights by groups and a bfloat16 cache; 8-bit floats as Ada adds up their products;
# softcaps, windows and norms with an offset.
@pytest.mark.parametrize(
    ("model_type", "target", "scheme", "changes"),
    [
        ("llama", "cuda", "f32", {}),
        # A wider model: one of 64 lies at the bound of w8, which is meant for real ones.
        ("llama", "cuda", "w8", {"hidden_size": 128}),
        ("llama", "cuda:sm_89", "f8", {"hidden_size": 128}),
        (
            "gemma2",
            "cuda",
            "bf16",
            {"head_dim": 16, "sliding_window": 24, "query_pre_attn_scalar": 16},
        ),
    ],
)
def test_the_proof_holds_on_an_emulated_gpu(
    model_type: str, target: str, scheme: str, changes: dict[str, int], tmp_path: Path
) -> None:
    make: MakeCheckpoint = write_checkpoint
    checkpoint = make(tmp_path / "checkpoint", model_type, **changes)
    log = tmp_path / "launches"
    arguments = [checkpoint, target, scheme, tmp_path / "out"]
    gpu = {"EMULATED_GPU_CAPABILITY": "89", "EMULATED_GPU_SHORT_SUMS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulated_gpu.prove", *arguments],
        env=environment(
            build_driver(tmp_path),
            EMULATED_GPU_LOG=str(log),
            **(gpu if target == "cuda:sm_89" else {}),
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    proof = json.loads(done.stdout.splitlines()[-1])
    assert proof["status"] == "proven"
    launched = [line.split()[0] for line in log.read_text().splitlines()]
    assert {"paged_attention_kernel", "kv_write_kernel"} <= set(launched)
    assert "rope_kernel" not in launched  # attention rotates its queries
    if model_type == "llama" and scheme != "f32":
        assert launches_of_a_layer(launched) == 7


def launches_of_a_layer(launched: list[str]) -> int:
    """From one layer's write of K and V to the next one's."""
    places = [i for i, name in enumerate(launched) if name == "kv_write_kernel"]
    return places[1] - places[0]
