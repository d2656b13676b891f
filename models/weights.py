"""Reads a checkpoint one tensor at a time, by the names that the transformers model gives them.

transformers renames and converts checkpoint keys while it loads; the same mapping is applied here,
so that old, prefixed and fused checkpoints read as the model's own parameters. No file is read
whole.
"""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.errors import CheckpointError, UnsupportedModelError
from ingot.models.checkpoint_files import StoredTensor, find_tensors, load_pickle
from ingot.models.empty import create_empty_model
from ingot.models.names import parameter_names
from ingot.models.resolve import ModelSource

_LISTED = 5


@dataclass(slots=True)
class _Recipe:
    """How one or several parameters are made from tensors of the checkpoint."""

    converter: Any = None
    """transformers' WeightConverter, or None where the stored tensor is the parameter."""
    sources: list[tuple[str, str | None]] = field(default_factory=list)
    """(name in the checkpoint, the converter's pattern that it matched)."""
    target: str = ""
    """The parameter that the converter is applied for."""


class WeightReader:
    """The parameters and persistent buffers of one checkpoint. Holds no tensor between reads."""

    def __init__(
        self,
        model: Any,
        stored: dict[str, StoredTensor],
        folder: Path,
        *,
        check_finite: bool,
    ) -> None:
        self._model = model
        self._stored = stored
        self._folder = folder
        self._check_finite = check_finite
        self._expected: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
        self._first = parameter_names(model)
        self._tied: dict[str, list[str]] = {}
        for name, first in self._first.items():
            self._tied.setdefault(first, []).append(name)
        self._recipes = _match(model, stored, self._expected)
        self._computed: dict[str, Tensor] = dict(model.named_buffers())
        self._check_complete()
        self._check_shapes()

    def names(self) -> tuple[str, ...]:
        """Every parameter and persistent buffer, tied ones once, in the model's order."""
        return tuple(self._tied)

    def aliases(self, name: str) -> tuple[str, ...]:
        """All names of the tensor `name`: more than one where parameters are tied."""
        return tuple(self._tied[name])

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._expected[name].shape)

    def read(self, name: str) -> Tensor:
        """The tensor of this parameter, in the dtype that the checkpoint stores."""
        recipe = self._recipe(name)
        if recipe is None:  # a buffer that the checkpoint leaves to the code
            return self._computed[name].detach().clone()
        tensor = self._read_recipe(recipe, name)
        if tuple(tensor.shape) != self.shape(name):
            raise self._wrong_shape(name, tuple(tensor.shape))
        self._check_tied(name, tensor)
        if self._check_finite and tensor.is_floating_point() and not _is_finite(tensor):
            raise CheckpointError(
                f"tensor {name} of {self._folder} holds NaN or infinite values",
                "the checkpoint is damaged, or training diverged",
            )
        return tensor

    def _recipe(self, name: str) -> _Recipe | None:
        """How `name` is made: by its own recipe or that of a parameter tied to it."""
        for alias in self._tied[self._first[name]]:
            if alias in self._recipes:
                return self._recipes[alias]
        return None

    def _read_recipe(self, recipe: _Recipe, name: str) -> Tensor:
        if recipe.converter is None:
            return self._load(recipe.sources[0][0])
        converter = deepcopy(recipe.converter)
        for source, pattern in recipe.sources:
            converter.add_tensor(recipe.target, source, pattern, self._load(source))
        made = converter.convert(recipe.target, model=self._model, config=self._model.config)
        for alias in self._tied[self._first[name]]:
            if alias in made:
                found = made[alias]
                tensor: Tensor = found[0] if isinstance(found, list) else found
                return tensor
        raise CheckpointError(
            f"transformers' conversion of {recipe.sources[0][0]} gives no {name}",
            "this checkpoint and this version of transformers don't fit each other",
        )

    def _load(self, stored_name: str) -> Tensor:
        file = self._stored[stored_name].file
        if file.suffix == ".bin":
            unpickled: Tensor = load_pickle(file)[stored_name]
            return unpickled
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as opened:
                tensor: Tensor = opened.get_tensor(stored_name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{stored_name} of {file} can't be read: {error}") from error
        return tensor

    def _check_tied(self, name: str, tensor: Tensor) -> None:
        """Refuse tensors that the configuration ties and the checkpoint holds apart."""
        stored = [alias for alias in self._tied[self._first[name]] if alias in self._recipes]
        for other in stored[1:]:
            if not torch.equal(self._read_recipe(self._recipes[other], other), tensor):
                raise CheckpointError(
                    f"the configuration ties {other} to {stored[0]}, "
                    f"but {self._folder} holds two different tensors",
                    'set "tie_word_embeddings" to false in config.json',
                )

    def _check_complete(self) -> None:
        ignored = [re.compile(p) for p in self._model._keys_to_ignore_on_load_missing or ()]
        missing = [
            name
            for name in self.names()
            if name not in self._computed
            and self._recipe(name) is None
            and not any(pattern.search(name) for pattern in ignored)
        ]
        if missing:
            listed = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
            raise CheckpointError(
                f"{self._folder} lacks {len(missing)} of {len(self.names())} tensors: {listed}",
                "the weights belong to another configuration, or a shard is missing",
            )

    def _check_shapes(self) -> None:
        """Compare what is stored with the configuration, where no conversion comes between."""
        for name in self.names():
            recipe = self._recipe(name)
            if recipe is not None and recipe.converter is None:
                stored = self._stored[recipe.sources[0][0]].shape
                if stored != self.shape(name):
                    raise self._wrong_shape(name, stored)

    def _wrong_shape(self, name: str, stored: tuple[int, ...]) -> CheckpointError:
        return CheckpointError(
            f"tensor {name} of {self._folder} has shape {list(stored)}; "
            f"its configuration says {list(self.shape(name))}",
            "config.json and the weights belong to different models",
        )


def open_weights(source: ModelSource, *, check_finite: bool = True) -> WeightReader:
    """Open the checkpoint of `source`; raises CheckpointError where it can't be whole."""
    config = source.config
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        method = dict(quantization).get("quant_method", "unknown")
        raise UnsupportedModelError(
            f"{source.name} is already quantized ({method}); Ingot reads unquantized checkpoints",
            "take the original checkpoint and let --quant quantize it",
        )
    stored = find_tensors(source.path, allow_pickle=source.allow_pickle)
    model = create_empty_model(
        config, dtype=torch.float32, trust_remote_code=source.trust_remote_code
    )
    return WeightReader(model, stored, source.path, check_finite=check_finite)


def _match(
    model: Any, stored: dict[str, StoredTensor], expected: dict[str, Tensor]
) -> dict[str, _Recipe]:
    """Parameter name -> recipe, by transformers' own renamings and converters."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [m for m in mapping if isinstance(m, WeightRenaming)]
    converters = [m for m in mapping if isinstance(m, WeightConverter)]
    by_pattern = {pattern: c for c in converters for pattern in c.source_patterns}
    rename: Callable[..., tuple[str, str | None]] = rename_source_key
    recipes: dict[str, _Recipe] = {}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename(key, renamings, converters, model.base_model_prefix, expected)
        if name not in expected and key in expected:
            name, pattern = key, None
        if name not in expected:
            continue  # the model has no use for it: old buffers, heads of other tasks
        if pattern is None:
            recipes[name] = _Recipe(sources=[(key, None)])
            continue
        converter = by_pattern[pattern]
        recipe = recipes.setdefault(name, _Recipe(converter=converter, target=name))
        recipe.sources.append((key, pattern))
        first = converter.target_patterns[0]
        for other in converter.target_patterns[1:]:  # one stored tensor, several parameters
            recipes.setdefault(name.replace(first, other), recipe)
    return recipes


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite. NaN and infinity survive min and max, so this needs no copy as
    large as the tensor."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))
