"""The plain model of a checkpoint, and where eager attention is not the right reference."""

from pathlib import Path

import torch
from torch import Tensor

from ingot.models.eager import load_eager, reference_attention
from ingot.models.resolve import resolve_model
from tests.models.running import plain_logits
from tests.tiny_models import create_tiny_model, find_family


def test_load(llama_folder: Path, two_prompts: tuple[Tensor, Tensor]) -> None:
    model = load_eager(resolve_model(str(llama_folder)), torch.float32)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    want = plain_logits(create_tiny_model(find_family("llama")), two_prompts[0])
    torch.testing.assert_close(plain_logits(model, two_prompts[0]), want, rtol=0, atol=0)


def test_dtype(llama_folder: Path) -> None:
    model = load_eager(resolve_model(str(llama_folder)), torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_frozen_rope(tmp_path: Path) -> None:
    create_tiny_model(find_family("phi3-longrope")).save_pretrained(tmp_path)
    source = resolve_model(str(tmp_path))
    assert load_eager(source, torch.float32).model.rotary_emb.rope_type == "longrope"
    frozen = load_eager(source, torch.float32, max_context_tokens=64)
    assert frozen.model.rotary_emb.rope_type == "default"


def test_eager_falcon_counts_alibi_twice() -> None:
    """Why `sdpa` is its reference; the day this fails, the exception can go."""
    from transformers import AutoModelForCausalLM

    assert reference_attention("falcon") == "sdpa"
    assert reference_attention("llama") == "eager"
    family = find_family("falcon-alibi")
    right = create_tiny_model(family)
    eager = AutoModelForCausalLM.from_config(family.config(), attn_implementation="eager").eval()
    eager.load_state_dict(right.state_dict())
    ids = torch.arange(3, 20)
    difference = (plain_logits(eager, ids) - plain_logits(right, ids)).abs().max()
    assert difference > 0.1
