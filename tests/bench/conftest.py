"""Tiny random checkpoints and a ready-made report for the benchmark's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.checkpoint import train_tokenizer
from ingot.bench.limits.record import Figure, Limits
from ingot.bench.machine import Machine
from ingot.bench.prompts import Case
from ingot.bench.report import (
    Agreement,
    BackendReport,
    CaseReport,
    Report,
    Sample,
    Settings,
    spread,
)
from ingot.runtime.artifact import manifest as records
from ingot.runtime.artifact.manifest import Manifest

MakeCheckpoint = Callable[..., Path]
TINY: dict[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 307,
    "max_position_embeddings": 128,
    # larger than the default, so that the greedy token isn't a near tie
    "initializer_range": 0.5,
}


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """A folder with a random model of one or two layers, by model type."""

    def make(model_type: str, **changes: object) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(model_type, **{**TINY, **changes})
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(model_type)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        train_tokenizer(folder, size=300)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_llama(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint("llama")


@pytest.fixture(scope="session")
def tiny_artifact(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as the compiled backend prepares it."""
    from ingot.bench.backends.compiled import ARTIFACT, CompiledBackend

    folder = tmp_path_factory.mktemp("compiled")
    CompiledBackend().prepare(Setting(model=tiny_llama, folder=folder))
    return folder / ARTIFACT


@pytest.fixture
def setting(tiny_llama: Path, tmp_path: Path) -> Setting:
    return Setting(model=tiny_llama, folder=tmp_path, max_batch=2, max_context_tokens=32)


def make_case(case: Case, tpot_s: float) -> CaseReport:
    samples = tuple(Sample(turn, 0.1 * turn, tpot_s) for turn in (1, 2))
    return CaseReport(
        case=case,
        ttft_s=spread([0.1, 0.2]),
        tpot_s=spread([tpot_s]),
        prefill_tokens_per_s=spread([case.prompt_length / 0.1, case.prompt_length / 0.2]),
        decode_tokens_per_s=spread([case.batch_size / tpot_s]),
        agreement=Agreement(1, 2, 0.75),
        repeatable=True,
        samples=samples,
    )


@pytest.fixture
def report() -> Report:
    """Eager, a backend twice as fast in decode, and one that isn't there."""
    lengths, batches = (16, 128), (1, 4)
    cases = [Case(length, batch) for length in lengths for batch in batches]

    def measured(name: str, tpot_s: float) -> BackendReport:
        return BackendReport(
            name,
            "measured",
            prepare_s=1.5,
            load_s=spread([2.0, 3.0]),
            first_token_s=spread([2.5]),
            warm_up_s=spread([1.0]),
            peak_memory_bytes=123_000_000,
            details={"attention": "sdpa"},
            cases=tuple(make_case(case, tpot_s) for case in cases),
        )

    return Report(
        created="2026-01-02T03:04:05+00:00",
        command="ingot bench compare demo",
        settings=Settings(
            model="demo",
            quant="w4",
            dtype="float32",
            device="cpu",
            threads=2,
            prompt_lengths=lengths,
            batch_sizes=batches,
            new_tokens=8,
            repetitions=1,
            warm_ups=1,
            turns=(("eager", "fast"), ("fast", "eager")),
            seed=0,
            prompt_source="a text",
            prompts_sha256="0" * 64,
        ),
        machine=Machine(
            cpu="A CPU",
            physical_cores=2,
            logical_cores=4,
            usable_cores=4,
            memory_bytes=8 << 30,
            features=("avx2",),
            gpus=(),
            system="Linux",
            python="3.12.0",
            load_average=0.5,
        ),
        versions={"torch": "2.13.0"},
        backends=(
            measured("eager", 0.02),
            measured("fast", 0.01),
            BackendReport("onnxruntime", "unavailable", "onnxruntime isn't installed"),
        ),
    )


@pytest.fixture
def toy_manifest() -> Manifest:
    """A model of nothing but its records: no weights, no kernels."""
    return records.Manifest(
        ingot_version="0",
        model=records.ModelRecord(
            name="toy",
            source="toy",
            revision=None,
            architecture="Toy",
            model_type="toy",
            config={},
            num_parameters=1,
        ),
        target=records.TargetRecord(
            name="cpu:toy",
            kind="cpu",
            features=("avx2", "avx512f", "avx512_vnni"),
            page_size_tokens=16,
        ),
        scheme=records.SchemeRecord(
            name="w8",
            linear="q8_g32",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="int8",
        ),
        step=records.StepRecord(
            vocab_size=10, max_context_tokens=100, num_layers=2, hidden_size=10
        ),
        kv_slots=(),
        weights=(),
        files=(),
        versions={},
        proof=records.ProofRecord(status="unproven"),
    )


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where measured limits are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def limits() -> Limits:
    """A machine with round figures: 20 GB/s of memory, 200 Gflop/s and 800 Gop/s with AVX-512."""
    figures = (
        ("memory read", "byte/s", 20e9, ""),
        ("l3 read", "byte/s", 80e9, ""),
        ("l2 read", "byte/s", 200e9, ""),
        ("memory copy", "byte/s", 18e9, ""),
        ("memory write", "byte/s", 10e9, ""),
        ("region", "s", 5e-6, ""),
        ("float32 avx2", "op/s", 100e9, "avx2"),
        ("float32 avx512f", "op/s", 200e9, "avx512f"),
        ("int8 avx2", "op/s", 300e9, "avx2"),
        ("int8 avx512_vnni", "op/s", 800e9, "avx512_vnni"),
        ("kernel call", "s", 1e-6, ""),
    )
    machine = Machine(
        cpu="Test CPU",
        physical_cores=2,
        logical_cores=2,
        usable_cores=2,
        memory_bytes=8 << 30,
        features=("avx2", "avx512f", "avx512_vnni"),
        gpus=(),
        system="Linux",
        python="3.11",
        load_average=0.0,
    )
    return Limits(
        created="2026-01-01T00:00:00+00:00",
        machine=machine,
        threads=2,
        figures=tuple(
            Figure(name, unit, best, best, 3, "so", feature)  # type: ignore[arg-type]
            for name, unit, best, feature in figures
        ),
        l2_bytes=2 << 20,
        l3_bytes=32 << 20,
    )
