"""An artifact's manifest to the model that it was made from."""

from __future__ import annotations

from ingot.errors import UsageError
from ingot.models.resolve import EMBEDDED, ModelSource, resolve_model
from ingot.runtime.artifact import Manifest


def find_source(
    manifest: Manifest,
    model: str | None = None,
    *,
    hint: str = "name the folder with --model",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> ModelSource:
    """The model that an artifact was made from, or the one that the user names for it."""
    record = manifest.model
    if model is None and record.source not in EMBEDDED and record.revision is None:
        raise UsageError(
            f"the artifact was made from a folder called {record.source}, which may be anywhere",
            hint,
        )
    return resolve_model(
        model or record.source,
        revision=None if model else record.revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
