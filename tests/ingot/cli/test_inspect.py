"""`ingot inspect` says what is in an artifact, from its manifest alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.runtime.artifact.manifest import (
    FileRecord,
    KernelRecord,
    KVSlotRecord,
    Manifest,
    ModelRecord,
    ProofRecord,
    RewriteRecord,
    SchemeRecord,
    StepRecord,
    TargetRecord,
    WeightRecord,
    read_manifest,
    write_manifest,
)

ZERO = "0" * 64
PREFILL = {"max_error": 0.25, "mean_error": 0.1, "kl_mean": 0.1, "kl_max": 0.2, "top1": 1.0}
FIGURES = {
    "prefill": {**PREFILL, "layer_errors": [0.5]},
    "decode": {**PREFILL, "layer_errors": [0.75]},
    "greedy": {"equal": 3, "tokens": 4},
    "bounds": {"max_error": 0.3},
    "kernels": {
        "prefill": {"best": [1e-7, 0.0], "worst": [0.01, 0.03]},
        "decode": {"best": [2e-7, 0.0], "worst": [0.02, 0.04]},
        "bound": {"best": [1e-4, 1e-4], "worst": [0.05, 0.05]},
    },
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    slot = KVSlotRecord(kv_heads=2, key_dim=8, value_dim=8, window=0, dtype="bfloat16")
    weight = WeightRecord(
        name="embed", dtype="uint8", shape=(64, 32), file="w", offset=0, bytes=2048, sha256=ZERO
    )
    manifest = Manifest(
        ingot_version="0.1.0",
        model=ModelRecord(
            name="tiny",
            source="tiny",
            revision="abc",
            architecture="LlamaForCausalLM",
            model_type="llama",
            config={},
            num_parameters=12345,
        ),
        target=TargetRecord(name="cuda:sm_90", kind="cuda", cuda_arch="sm_90", page_size_tokens=32),
        scheme=SchemeRecord(
            name="w4",
            linear="q4_s128",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="int8",
            keep={"lm_head": "f16"},
        ),
        step=StepRecord(vocab_size=64, max_context_tokens=2048, num_layers=2, hidden_size=32),
        kv_slots=(slot, slot),
        weights=(weight,),
        files=(FileRecord(path="model.so", bytes=1_500_000, sha256=ZERO),),
        versions={"apache-tvm": "0.27.0"},
        rewrites=(RewriteRecord(name="fuse_norm", matched=5),),
        proof=ProofRecord(status="proven", figures=FIGURES),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def test_text_holds_the_facts(artifact: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(artifact)])
    assert result.exit_code == 0, result.output
    summary = result.stdout.partition("\n\n")[0]
    fields = dict(line.split("  ", 1) for line in summary.splitlines())
    assert fields["model"].strip() == "tiny (LlamaForCausalLM, 12,345 parameters)"
    assert fields["source"].strip() == "tiny at abc"
    assert "cuda:sm_90" in fields["target"]
    assert "lm_head as f16" in fields["scheme"]
    # 2 layers x 2 heads x (8 + 8) values x 2 bytes
    assert fields["kv cache"].strip().startswith("128 B a token")
    assert "model.so 1.5 MB" in fields["files"]
    assert fields["rewrites"].strip() == "fuse_norm 5"
    assert fields["proof"].strip() == "proven"
    rows = [line.split() for line in result.stdout.splitlines()]
    assert "layer 0 1e-07 2e-07 0.0001 0.01 0.02 0.05".split() in rows
    assert "head 0 0 0.0001 0.03 0.04 0.05".split() in rows
    assert "max_error 0.25 0.25 0.3 largest error of a logit".split() in rows
    assert "greedy text  the same as eager's for the first 3 of 4 tokens" in result.stdout


def test_a_proof_without_layers_is_of_an_older_ingot(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    old = {name: figure for name, figure in FIGURES.items() if name != "kernels"}
    proof = ProofRecord(status="proven", figures=old)
    write_manifest(artifact, manifest.model_copy(update={"proof": proof}))
    result = CliRunner().invoke(app, ["inspect", str(artifact)])
    assert "the proof is of an older Ingot" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert "max_error 0.25 0.25 0.3 largest error of a logit".split() in rows


def test_weights_are_listed_on_request(artifact: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--weights"])
    assert "embed   uint8  64x32  2.0 kB" in result.stdout


def test_kernels_are_listed_with_what_they_take(artifact: Path) -> None:
    kernels = (
        KernelRecord(
            name="linear_kernel",
            arch="sm_90",
            grid=("16", "n"),
            threads=256,
            registers=134,
            shared_bytes=98_304,
            spill_bytes=0,
        ),
        KernelRecord(
            name="crowded_kernel",
            arch="sm_90",
            grid=("n",),
            threads=1024,
            registers=64,
            shared_bytes=0,
            spill_bytes=12,
        ),
    )
    manifest = read_manifest(artifact)
    write_manifest(artifact, manifest.model_copy(update={"kernels": kernels}))
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--kernels"])
    assert result.exit_code == 0, result.output
    assert "2, at most 134 registers a thread and 98.3 kB of shared memory" in result.stdout
    assert "spilling: crowded_kernel" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert "linear_kernel sm_90 16 x n 256 134 98.3 kB 0".split() in rows
    assert "crowded_kernel sm_90 n 1024 64 0 B 12".split() in rows
    assert "for n tokens, b sequences" in result.stdout


def test_kernels_of_a_cpu_are_not_listed(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    target = manifest.target.model_copy(update={"name": "cpu:x", "kind": "cpu"})
    write_manifest(artifact, manifest.model_copy(update={"target": target, "kernels": ()}))
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--kernels"])
    assert result.exit_code == 2
    assert "those for cpu:x are in model.so" in result.stderr


def test_json_is_the_manifest(artifact: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--json"])
    record = json.loads(result.stdout)
    assert record["target"]["cuda_arch"] == "sm_90"
    assert record["schema_version"] == 2


def test_not_an_artifact(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert "no manifest.json" in result.stderr


def test_a_forecast_of_memory(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(artifact))
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--context", "33", "--batch", "2"])
    assert result.exit_code == 0, result.stderr
    assert "context 33, batch 2" in result.stdout
    # two pages of 32 tokens for each sequence, two layers of 64 bytes a token
    assert "kv cache 16.4 kB (128 B a token)" in result.stdout
    assert "run `ingot bench limits`" in result.stdout
    as_json = CliRunner().invoke(app, ["inspect", str(artifact), "--batch", "2", "--json"])
    forecast = json.loads(as_json.stdout)["forecast"]
    assert forecast["batch"] == 2 and forecast["memory"]["kv_per_token"] == 128


def test_a_forecast_beyond_the_context_is_refused(artifact: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(artifact), "--context", "999999999"])
    assert result.exit_code == 2
    assert "the artifact holds 1 to" in result.stderr
