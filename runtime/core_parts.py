"""Turns an artifact and an engine's options into its core: device, pages, limits, guesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.constraints.masker import Masker
from ingot.runtime.core import EngineCore
from ingot.runtime.executor import CompiledExecutor, Executor
from ingot.runtime.kv import PagePool
from ingot.runtime.limits import Limits
from ingot.runtime.speculation.build import SpeculationOptions, create_speculator
from ingot.runtime.tokenizer import Tokenizer


def create_core(
    artifact: Artifact,
    tokenizer: Tokenizer | None,
    speculation: SpeculationOptions,
    *,
    num_threads: int | None,
    num_pages: int,
    max_sequences: int,
    max_step_tokens: int,
    max_waiting: int | None,
    on_progress: Callable[[int, int], None] | None,
    executor: Executor | None,
    clock: Callable[[], float],
) -> EngineCore:
    """`Engine` explains the options; without an `executor` the artifact's own code runs."""
    manifest = artifact.manifest
    limits = Limits(
        manifest.step.vocab_size,
        manifest.step.max_context_tokens,
        num_pages * manifest.page_size_tokens,
        max_sequences,
        max_step_tokens,
        max_waiting,
        can_embed=manifest.step.functions.embed is not None,
    )
    end_token_ids = tokenizer.end_token_ids if tokenizer else frozenset()
    if executor is None:
        executor = CompiledExecutor(
            artifact,
            num_pages=num_pages,
            num_threads=num_threads,
            max_step_tokens=max_step_tokens,
            max_sequences=max_sequences,
            max_proposed=speculation.max_tokens if speculation.is_wanted else 0,
            on_progress=on_progress,
        )
    return EngineCore(
        executor,
        PagePool(num_pages, manifest.page_size_tokens),
        limits,
        decode=tokenizer.decode if tokenizer else _no_text,
        eos_token_ids=end_token_ids,
        clock=clock,
        speculator=create_speculator(
            speculation, artifact, limits, num_threads=num_threads, clock=clock
        ),
        gives_pages_ahead=manifest.target.kind == "cuda",  # where steps run ahead
        masker=Masker(artifact.path / "tokenizer.json", limits.vocab_size, sorted(end_token_ids)),
    )


def _no_text(tokens: Sequence[int]) -> str:
    """What tokens read as without a tokenizer."""
    return ""
