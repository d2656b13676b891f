"""Turns an engine's options into what guesses for it, checked against the model that verifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokenizers import Tokenizer

from ingot.errors import UsageError
from ingot.runtime.artifact.artifact import Artifact, load_artifact
from ingot.runtime.artifact.manifest import Manifest, read_manifest
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.kv import PagePool
from ingot.runtime.limits import Limits

if TYPE_CHECKING:
    from ingot.runtime.speculation.draft_model import DraftModel
    from ingot.runtime.speculation.prompt_lookup import PromptLookup
    from ingot.runtime.speculation.speculator import Speculator

SpeculationKind = Literal["prompt-lookup", "draft"]
KINDS: tuple[SpeculationKind, ...] = ("prompt-lookup", "draft")
DEFAULT_MAX_TOKENS = 10


@dataclass(frozen=True, slots=True)
class SpeculationOptions:
    """`kind` None means no speculation, or a draft model's where `draft` is given."""

    kind: SpeculationKind | None = None
    draft: str | Path | Artifact | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS

    @property
    def is_wanted(self) -> bool:
        return self.kind is not None or self.draft is not None

    @property
    def draft_manifest(self) -> Manifest | None:
        if self.draft is None:
            return None
        if isinstance(self.draft, Artifact):
            return self.draft.manifest
        return read_manifest(Path(self.draft).expanduser().resolve())

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise UsageError(f"speculation is {self.kind!r}; it is {' or '.join(KINDS)}")
        if self.kind == "draft" and self.draft is None:
            raise UsageError("speculation is 'draft' and there is no draft artifact")
        if self.kind == "prompt-lookup" and self.draft is not None:
            raise UsageError("speculation is 'prompt-lookup', which uses no draft artifact")
        if not 1 <= self.max_tokens <= 64:
            raise UsageError(f"max_draft_tokens is {self.max_tokens}; it is 1 to 64")


def create_speculator(
    options: SpeculationOptions,
    artifact: Artifact,
    limits: Limits,
    *,
    num_threads: int | None,
    clock: Callable[[], float],
) -> Speculator | None:
    """None where no speculation is wanted."""
    if not options.is_wanted:
        return None
    # Loaded by engines that guess, so that the start of others doesn't wait for it.
    from ingot.runtime.speculation.prompt_lookup import PromptLookup
    from ingot.runtime.speculation.speculator import Speculator

    proposer: DraftModel | PromptLookup
    if options.draft is not None:
        proposer = _load_draft(options.draft, artifact, limits, num_threads)
        proposer.time_guess(clock)
    else:
        proposer = PromptLookup()
    return Speculator(proposer, options.max_tokens, clock)


def _load_draft(
    draft: str | Path | Artifact, artifact: Artifact, limits: Limits, num_threads: int | None
) -> DraftModel:
    from ingot.runtime.speculation.draft_model import DraftModel

    if not isinstance(draft, Artifact):
        draft = load_artifact(draft)
    _check_vocabulary(draft, artifact)
    manifest = draft.manifest
    page_size = manifest.page_size_tokens
    # As many tokens as the model's own cache holds, and guesses beside.
    num_pages = -(-limits.cache_tokens // page_size) + limits.max_sequences
    return DraftModel(
        CompiledExecutor(
            draft,
            num_pages=num_pages,
            num_threads=num_threads,
            max_step_tokens=limits.max_step_tokens,
            max_sequences=limits.max_sequences,
        ),
        PagePool(num_pages, page_size),
        vocab_size=limits.vocab_size,
        max_context_tokens=manifest.step.max_context_tokens,
        max_step_tokens=limits.max_step_tokens,
    )


def _check_vocabulary(draft: Artifact, artifact: Artifact) -> None:
    """Tokens are passed on as numbers: they must mean the same to both models."""
    if _vocabulary(draft) == _vocabulary(artifact):
        return
    raise UsageError(
        f"the draft model, {draft.manifest.model.name}, has another vocabulary than "
        f"{artifact.manifest.model.name}",
        hint="take a smaller model of the same family",
    )


def _vocabulary(artifact: Artifact) -> dict[str, int] | int:
    """Every token's number, or how many there are where the model has no tokenizer."""
    path = artifact.path / "tokenizer.json"
    if not path.exists():
        return artifact.manifest.step.vocab_size
    return dict(Tokenizer.from_file(str(path)).get_vocab())
