"""An artifact's manifest to the rounding of each matrix, its inputs and the cache, by the kernels'
own references."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ingot.compile.kernels.kv_write.reference import from_kv_dtype, to_kv_dtype
from ingot.compile.kernels.matmul import LinearSpec, effective_activations
from ingot.compile.kernels.matmul.reference import round_inputs, round_weight
from ingot.compile.kernels.paged_attention.reference import round_weights
from ingot.compile.kernels.paged_attention.spec import has_pairs, weight_rounding
from ingot.compile.schemes import FORMATS, SCHEMES, WeightFormat
from ingot.compile.storage import FormatRules
from ingot.errors import ArtifactVersionError
from ingot.models.names import parameter_names
from ingot.runtime.artifact.manifest import Manifest, SchemeRecord
from ingot.targets import Target, resolve_target


class ArtifactRounding:
    """Rounds as the kernels of an artifact do, whose model in eager form is `model`.

    Its formats must be known: `check_formats`.
    """

    def __init__(self, manifest: Manifest, model: Any) -> None:
        record = manifest.scheme
        self._target = _target_of(manifest)
        self._activations, self._kv_dtype = record.activations, record.kv_dtype
        self._formats = _formats(_rules(record, model), model)

    def weight(self, name: str, rows: Tensor) -> Tensor:
        format = self._formats[name]
        if format.code == "f32":
            return rows
        return _as_tensor(round_weight(rows.numpy(), format))

    def inputs(self, name: str, x: Tensor) -> Tensor:
        format, width = self._formats[name], x.shape[-1]
        spec = LinearSpec(1, width, format, self._activations, has_bias=False)  # type: ignore[arg-type]
        activations = effective_activations(spec, self._target)
        if activations == "float32":
            return x
        rows = x.reshape(-1, width).numpy()
        return _as_tensor(round_inputs(rows, format, activations)).view(x.shape)

    def cached(self, x: Tensor) -> Tensor:
        return self._through_cache(x)

    def queries(self, query: Tensor, value_dim: int) -> Tensor:
        if has_pairs(self._kv_dtype, query.shape[-1], value_dim, self._target):
            return self._through_cache(query)
        return query

    def attention(self, weights: Tensor, key_dim: int, value_dim: int) -> Tensor:
        rounding = weight_rounding(self._kv_dtype, key_dim, value_dim, self._target)
        if rounding is None:
            return weights
        return _as_tensor(round_weights(weights.numpy(), rounding, self._kv_dtype))

    def _through_cache(self, x: Tensor) -> Tensor:
        stored = to_kv_dtype(x.numpy(), self._kv_dtype)
        return _as_tensor(from_kv_dtype(stored, self._kv_dtype))


def _as_tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _target_of(manifest: Manifest) -> Target:
    """The target with the features that the artifact was compiled for."""
    return replace(resolve_target(manifest.target.name), features=manifest.target.features)


def check_formats(record: SchemeRecord) -> None:
    """Refuse an artifact of another version, whose weights are rounded in ways not known here."""
    codes = {record.linear, record.embedding, record.head, *record.keep.values()}
    unknown = sorted(codes - set(FORMATS))
    if unknown or record.name not in SCHEMES:
        raise ArtifactVersionError(
            f"the artifact holds weights in {', '.join(unknown) or record.name}, "
            "which this version of Ingot doesn't write",
            hint="compile the model again with this version of Ingot",
        )


def _rules(record: SchemeRecord, model: Any) -> FormatRules:
    scheme = replace(
        SCHEMES[record.name], linear=record.linear, embedding=record.embedding, head=record.head
    )
    aliases: dict[str, list[str]] = {}
    for name, first in parameter_names(model).items():
        aliases.setdefault(first, []).append(name)
    return FormatRules(scheme, tuple(record.keep.items()), aliases)


def _formats(rules: FormatRules, model: Any) -> dict[str, WeightFormat]:
    """The format of each matrix by each of its names, as lowering chooses it."""
    first = parameter_names(model)
    head = model.get_output_embeddings()
    roles: dict[str, str] = {}
    for path, module in model.named_modules():
        name = f"{path}.weight"
        if name in first:
            role = "embedding" if isinstance(module, nn.Embedding) else "linear"
            if module is head or roles.get(first[name]) == "head":
                role = "head"
            roles[first[name]] = role
    return {
        name: rules.format_of([tensor], roles[tensor])
        for name, tensor in first.items()
        if tensor in roles
    }
