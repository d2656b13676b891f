"""Errors carry the module and the line of transformers' code."""

from typing import Any

import pytest
import torch

from ingot.errors import UnsupportedModelError
from ingot.models.capture import capture, prepare
from ingot.models.unsupported import source_line, unsupported_exception, unsupported_node
from tests.tiny_models import create_tiny_model, find_family


def test_node_names_its_module_and_line() -> None:
    program = capture(
        find_family("gpt2").config(), dtype=torch.float32, max_context_tokens=64
    ).program
    node = next(n for n in program.graph.nodes if "addmm" in str(n.target))
    assert "transformers" in source_line(node)
    message = unsupported_node(node, "operator `addmm`").message
    assert "operator `addmm` in module `model.transformer.h.0.attn.c_attn`" in message
    assert ".py:" in message


def test_forward_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family with a mask that nobody knows: the error shows who asked for it."""
    from transformers import masking_utils as hf
    from transformers.models.llama import modeling_llama

    original = hf.create_causal_mask

    def with_union(*args: Any, **options: Any) -> Any:
        return original(*args, or_mask_function=hf.bidirectional_mask_function, **options)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", with_union)
    prepared = prepare(create_tiny_model(find_family("llama")), 64)
    rows = torch.arange(5)
    with pytest.raises(UnsupportedModelError, match=r"or_masks.*modeling_llama\.py:\d+"):
        prepared(rows[None], rows[None], rows)


def test_attention_in_the_models_own_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.models.capture.find_adapter", lambda model_type: None)
    where = r"module `gpt_neox_japanese.layers.0.attention` .*modeling_gpt_neox_japanese\.py:\d+"
    config = find_family("gpt_neox_japanese").config()
    with pytest.raises(UnsupportedModelError, match=f"attention interface in {where}"):
        capture(config, dtype=torch.float32, max_context_tokens=64)


def test_a_violated_constraint_is_told_in_full() -> None:
    error = RuntimeError(
        'Constraints violated (num_tokens)! For more information, run with TORCH_LOGS="+dynamic".\n'
        "  - You marked num_tokens as dynamic but your code specialized it to be a constant (7). "
        "If you're using mark_dynamic, remove it.\nSuggested fixes:\n  num_tokens = 7"
    )
    message = unsupported_exception(error, "torch.export stopped").message
    assert "You marked num_tokens as dynamic but your code specialized it" in message
    assert message.endswith("constant (7)")
