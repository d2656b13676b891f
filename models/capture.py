"""Turns a transformers configuration into an exported program, from the model's own code.

`prepare` switches a built model to Ingot's operators; `capture` exports it. The program takes
input_ids [1, n], position_ids [1, n] and logit_rows [m], and gives logits [1, m, vocabulary].
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ingot.errors import UsageError
from ingot.models import attention
from ingot.models.adapters import find_adapter
from ingot.models.attention import KVSlot, Recorder, recording
from ingot.models.empty import accepts, create_empty_model, fake_parameters
from ingot.models.export import export_program, split_inputs
from ingot.models.layers import find_decoder_layers, mark_layer_outputs
from ingot.models.names import parameter_names
from ingot.models.rope import freeze_rope
from ingot.models.token_mixing import check_tokens_stay_apart
from ingot.models.unsupported import unsupported_module

UNLIMITED_CONTEXT = 2048
"""The context by default for models whose configuration names no longest one, such as Bloom."""


@dataclass(frozen=True, slots=True)
class CapturedModel:
    """An exported program and everything that the compiler and the runtime must know about it."""

    program: ExportedProgram
    parameters: dict[str, str]
    """Placeholder -> parameter name of the transformers model; tied placeholders share a name."""
    constants: dict[str, Tensor]
    kv_slots: tuple[KVSlot, ...]
    num_layers: int
    vocab_size: int
    hidden_size: int
    max_context_tokens: int
    config: Any
    frozen_ropes: int
    """Rotary modules whose frequencies were fixed for `max_context_tokens`."""


class CapturedForward(nn.Module):
    """A prepared model as a function of (input_ids, position_ids, logit_rows)."""

    def __init__(self, model: Any, frozen_ropes: int) -> None:
        super().__init__()
        self.model = model
        self.frozen_ropes = frozen_ropes
        self.recorder = Recorder({id(module): path for path, module in model.named_modules()})
        self._takes_positions = accepts(model, "position_ids")
        self._takes_rows = accepts(model, "logits_to_keep")
        if not self._takes_rows:
            self._gather_before_head()

    def _gather_before_head(self) -> None:
        """Keep the wanted rows of what enters the head of a model without `logits_to_keep`."""
        head = self.model.get_output_embeddings()
        recorder = self.recorder
        head.register_forward_pre_hook(lambda _, args: (args[0][:, recorder.logit_rows], *args[1:]))

    def forward(self, input_ids: Tensor, position_ids: Tensor, logit_rows: Tensor) -> Tensor:
        self.recorder.begin(logit_rows)
        options: dict[str, Any] = {"use_cache": False}
        if self._takes_positions:
            options["position_ids"] = position_ids
        if self._takes_rows:
            options["logits_to_keep"] = logit_rows
        with recording(self.recorder):
            logits: Tensor = self.model(input_ids=input_ids, **options).logits
        return logits


def prepare(model: Any, max_context_tokens: int) -> CapturedForward:
    """Switch a freshly built transformers model to Ingot's operators, in place."""
    attention.register()
    config: Any = model.config
    refuse_modules(model)
    frozen_ropes = freeze_rope(model, max_context_tokens)
    adapter = find_adapter(config.model_type)
    if adapter is None:
        model.set_attn_implementation(attention.NAME)
    else:
        adapter(model)
        config._attn_implementation_internal = attention.NAME  # masks go by it
    mark_layer_outputs(find_decoder_layers(model, config.num_hidden_layers))
    return CapturedForward(model, frozen_ropes)


def capture(
    config: Any,
    *,
    dtype: torch.dtype,
    max_context_tokens: int | None = None,
    trust_remote_code: bool = False,
) -> CapturedModel:
    """Export the causal language model of `config`. Needs no weights and no memory for them.

    Without `max_context_tokens`, the context is as long as the model was made for.
    """
    max_context_tokens = choose_context(config, max_context_tokens)
    model = create_empty_model(config, dtype=dtype, trust_remote_code=trust_remote_code)
    names = parameter_names(model)
    fake_parameters(model)
    forward = prepare(model, max_context_tokens)
    program = export_program(forward, max_context_tokens)
    if not forward.recorder.kv_slots:
        path, module = find_attention(model)
        raise unsupported_module("no call of transformers' attention interface", module, path)
    check_tokens_stay_apart(program.graph)
    weights, constants = split_inputs(program)
    return CapturedModel(
        program=program,
        parameters={name: names[path.removeprefix("model.")] for name, path in weights.items()},
        constants=constants,
        kv_slots=tuple(forward.recorder.kv_slots),
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        max_context_tokens=max_context_tokens,
        config=config,
        frozen_ropes=forward.frozen_ropes,
    )


def refuse_modules(model: nn.Module) -> None:
    """Experts and recurrences need operators of their own, as attention does."""
    for path, module in model.named_modules():
        if hasattr(module, "has_gate") and hasattr(module, "is_transposed"):  # transformers' mark
            raise unsupported_module("mixture of experts", module, path)
        if any(isinstance(child, nn.Conv1d) for child in module.children()):
            raise unsupported_module("recurrence with a convolution over tokens", module, path)


def find_attention(model: nn.Module) -> tuple[str, nn.Module]:
    """The first module that by its name attends, for messages; else the model."""
    named = ((path, m) for path, m in model.named_modules() if "Attention" in type(m).__name__)
    return next(named, ("", model))


def choose_context(config: Any, wanted: int | None) -> int:
    """The longest context in tokens: what is wanted, within what the model was made for."""
    names = ("max_position_embeddings", "max_seq_len", "n_positions")
    limit = next((found for name in names if (found := getattr(config, name, None))), None)
    if wanted is None:
        return int(limit or UNLIMITED_CONTEXT)
    if wanted < 1 or (limit is not None and wanted > limit):
        allowed = "at least 1" if limit is None else f"1 to {limit:,}"
        raise UsageError(
            f"a context of {wanted:,} tokens is wanted; this {config.model_type} model "
            f"was made for {allowed}"
        )
    return wanted
