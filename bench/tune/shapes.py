"""A model to the kernels that its layers call most, without its weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from ingot.bench.tune.cuda import Shapes
from ingot.compile.kernels.matmul.spec import LinearSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.errors import UsageError
from ingot.targets import Target

# Layers are alike, so a few tell which kernels are called most.
EIGHT_BILLION = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "num_hidden_layers": 4,
}


def model_shapes(model: str | None, quant: str | None, target: Target) -> Shapes:
    """Of a model in a scheme; without one, of a Llama with eight billion parameters."""
    from ingot.compile.schemes import SCHEMES
    from ingot.models.resolve import resolve_model

    scheme = quant or target.default_scheme
    if scheme not in SCHEMES:
        raise UsageError(
            f"no quantization scheme is called {scheme!r}; they are {', '.join(SCHEMES)}"
        )
    if model is None:
        from transformers import LlamaConfig

        name, config = "a Llama of 8 billion parameters", LlamaConfig(**EIGHT_BILLION)
    else:
        source = resolve_model(model)
        name, config = source.name, source.config
    return shapes_of(f"{name} in {scheme}", count_calls_of(config, scheme, target))


def count_calls_of(config: Any, scheme: str, target: Target) -> Counter[Any]:
    """How often a step of the model calls the kernel of each spec."""
    import torch

    from ingot.compile.pipeline import GraphOptions, count_calls
    from ingot.compile.schemes import scheme_for
    from ingot.compile.storage import FormatRules
    from ingot.models.capture import capture

    captured = capture(config, dtype=torch.float32)
    return count_calls(captured, GraphOptions(target, FormatRules(scheme_for(scheme, target.kind))))


def plain(spec: Any) -> Any:
    """A linear without its share of the norms around it, which decides no size."""
    return replace(spec, adds=False, norm_eps=0.0) if isinstance(spec, LinearSpec) else spec


def shapes_of(name: str, calls: Counter[Any]) -> Shapes:
    """The linears and attentions that layers call, not what a model has once, such as its head."""

    def most_called(kind: type) -> tuple[Any, ...]:
        counts: Counter[Any] = Counter()
        for spec, count in calls.items():
            if isinstance(spec, kind):
                counts[plain(spec)] += count
        return tuple(s for s, count in counts.items() if 2 * count >= max(counts.values()))

    return Shapes(name, most_called(LinearSpec), most_called(PagedAttentionSpec))
