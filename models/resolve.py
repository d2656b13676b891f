"""Turns what a user calls a model (a Hub id, a folder, `demo`) into a folder on this machine."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.errors import ModelError, UnsupportedModelError

EMBEDDED = {"demo": Path("demo"), "demo-draft": Path("demo") / "draft"}
"""Names of the models that come with Ingot, and their folders beside this file."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Everything but weights: configuration, tokenizer, chat template, remote code.
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py")
_REFERENCE_HINT = "give a Hub id such as Qwen/Qwen2.5-0.5B, a folder with config.json, or demo"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A checkpoint folder and how far its contents are trusted."""

    name: str
    path: Path
    revision: str | None = None
    """Commit of the Hub repository, where the model came from one."""
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def config(self) -> Any:
        """The transformers configuration. Raises ModelError where there is none that works."""
        return read_config(self)


def resolve_model(
    ref: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> ModelSource:
    """Find `ref` on this machine, downloading a Hub repository where that is what it names."""
    trust: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
    }
    if ref in EMBEDDED:
        return ModelSource(ref, Path(__file__).parent / EMBEDDED[ref], **trust)
    folder = Path(ref).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            if (folder / "manifest.json").is_file():
                raise ModelError(f"{folder} is an artifact: it is compiled already")
            raise ModelError(f"{folder} has no config.json", _REFERENCE_HINT)
        return ModelSource(folder.resolve().name, folder.resolve(), **trust)
    if folder.exists():
        raise ModelError(f"{ref} is a file; a model is a folder with config.json", _REFERENCE_HINT)
    if not _HUB_ID.fullmatch(ref):
        raise ModelError(f"there is no model at {ref}", _REFERENCE_HINT)
    path = _download(ref, revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    return ModelSource(ref, path, path.name, **trust)


def _download(
    repository: str, revision: str | None, *, trust_remote_code: bool, allow_pickle: bool
) -> Path:
    """The snapshot folder; its name is the commit. Weights come second, by what the index lists."""
    from ingot.models.checkpoint_files import weight_files

    small = [p for p in _SMALL_FILES if trust_remote_code or p != "*.py"]
    path = _snapshot(repository, revision, small)
    if not (path / "config.json").is_file():
        raise ModelError(f"{repository} on the Hub has no config.json", _REFERENCE_HINT)
    wanted = weight_files(path, allow_pickle=allow_pickle)
    if not all((path / name).is_file() for name in wanted):
        path = _snapshot(repository, revision, list(wanted))
    return path


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise ModelError(
            f"{repository} is gated on the Hub", "accept its terms there, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"there is no model {repository} on the Hub", _REFERENCE_HINT) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{repository} has no revision {revision}") from error
    except HFValidationError as error:
        raise ModelError(f"{repository} is no Hub id", _REFERENCE_HINT) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{repository} is neither a folder nor in the Hub cache, and the Hub can't be reached",
            _REFERENCE_HINT,
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"{repository} could not be downloaded: {_first_line(error)}") from error


def read_config(source: ModelSource) -> Any:
    """The transformers configuration of a folder."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    file = source.path / "config.json"
    try:
        raw = json.loads(file.read_text())
    except OSError as error:
        raise ModelError(f"{file} can't be read: {error.strerror}", _REFERENCE_HINT) from error
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from error
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if not model_type:
        raise ModelError(f"{file} has no model_type, so no transformers model fits it")
    if model_type not in CONFIG_MAPPING_NAMES:
        if "auto_map" not in raw:
            raise ModelError(
                f"transformers has no architecture `{model_type}` ({file})",
                "a newer transformers may have it; `ingot models` lists what is known to work",
            )
        if not source.trust_remote_code:
            raise ModelError(
                f"{source.name} brings its own code for `{model_type}`, which is not trusted",
                "read that code, then give --trust-remote-code",
            )
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if "AutoModelForCausalLM" not in raw.get("auto_map", {}):
            raise UnsupportedModelError(f"`{model_type}` is no causal language model ({file})")
    try:
        config = AutoConfig.from_pretrained(
            source.path, trust_remote_code=source.trust_remote_code, local_files_only=True
        )
    except (StrictDataclassError, ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(f"{file} is no valid configuration: {_first_line(error)}") from error
    if config.get_text_config() is not config:
        raise UnsupportedModelError(
            f"`{model_type}` joins a language model with others (images, sound); "
            "Ingot compiles language models alone",
            "a checkpoint of its text model alone, where there is one, works",
        )
    return config


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
