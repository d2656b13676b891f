"""RoPE that depends on the batch is chosen once."""

import torch
from transformers import AutoConfig

from ingot.models.rope import freeze_rope
from tests.tiny_models import create_tiny_model, find_family


def rotary(name: str, max_context_tokens: int) -> tuple[int, torch.Tensor]:
    model = create_tiny_model(find_family(name))
    count = freeze_rope(model, max_context_tokens)
    (found,) = [m for m in model.modules() if hasattr(m, "inv_freq")]
    return count, found.inv_freq


def test_ordinary_rope_is_left_alone() -> None:
    assert rotary("llama", 64)[0] == 0
    assert rotary("llama-yarn", 64)[0] == 0


def test_longrope_follows_the_context() -> None:
    base = 10000.0 ** -(torch.arange(0, 8, 2) / 8)
    count, short = rotary("phi3-longrope", 16)
    assert count == 1
    torch.testing.assert_close(short, base / torch.tensor([1.0, 1.5, 2.0, 2.5]))
    torch.testing.assert_close(
        rotary("phi3-longrope", 17)[1], base / torch.tensor([2.0, 3.0, 4.0, 5.0])
    )


def test_dynamic_ntk_follows_the_context() -> None:
    count, within = rotary("llama-dynamic", 64)
    assert count == 1
    assert not torch.equal(within, rotary("llama-dynamic", 128)[1])


def test_rope_by_layer_type() -> None:
    from transformers import AutoModelForCausalLM

    options = dict(find_family("gemma3_text").options)
    options["rope_parameters"] = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    }
    config = AutoConfig.for_model(
        "gemma3_text", vocab_size=128, hidden_size=32, num_hidden_layers=2, **options
    )
    model = AutoModelForCausalLM.from_config(config)
    assert freeze_rope(model, 64) == 1
    assert model.model.rotary_emb.rope_type == {
        "sliding_attention": "default",
        "full_attention": "default",
    }
