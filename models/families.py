"""The families that Ingot is tested with: a tiny configuration for each, exercising what it has.

Tests import, compile and prove every row; `docs/models.md` is written from the same rows. Windows
are shorter than the test's sequences and optional features are on, so that a dropped one shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CONTEXT_TOKENS = 64
"""Longest context of a tiny model."""

_SMALL: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }
)
_SLIDING: Mapping[str, Any] = MappingProxyType(
    {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
)


@dataclass(frozen=True, slots=True)
class Family:
    """One row: a name (model_type, or model_type-variant), its configuration, what it exercises."""

    name: str
    features: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = True
    """The configuration takes the common names (hidden_size, num_key_value_heads, ...)."""

    @property
    def model_type(self) -> str:
        return self.name.split("-")[0]

    def config(self) -> Any:
        """A fresh transformers configuration."""
        from transformers import AutoConfig

        options = {**(_SMALL if self.plain else {}), **self.options}
        return AutoConfig.for_model(self.model_type, **options)


def _rope(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


_GPT: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": 128,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": CONTEXT_TOKENS,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
)
_XGLM: Mapping[str, Any] = MappingProxyType(
    {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}
)
_MULTIPLIERS: Mapping[str, Any] = MappingProxyType(
    {
        "embedding_multiplier": 2.0,
        "logits_scaling": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.3,
    }
)
_LONGROPE: Mapping[str, Any] = MappingProxyType(
    {
        "short_factor": [1.0, 1.5, 2.0, 2.5],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": 16,
        "partial_rotary_factor": 1.0,
    }
)

FAMILIES: tuple[Family, ...] = (
    Family("llama", ("GQA", "RoPE", "RMSNorm", "SwiGLU")),
    Family(
        "llama-llama3",
        ("llama3 RoPE scaling", "tied embeddings"),
        {
            **_rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
            "tie_word_embeddings": True,
        },
    ),
    Family(
        "llama-yarn",
        ("YaRN", "attention and MLP biases"),
        {
            **_rope("yarn", factor=4.0, original_max_position_embeddings=16),
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    Family("llama-linear", ("linear RoPE scaling",), _rope("linear", factor=2.0)),
    Family(
        "llama-dynamic",
        ("dynamic NTK, fixed for the artifact's context",),
        {**_rope("dynamic", factor=4.0), "max_position_embeddings": 64},
    ),
    Family("mistral", ("sliding window",), {"sliding_window": 8}),
    Family(
        "qwen2",
        ("q/k/v biases", "sliding window on some layers", "tied embeddings"),
        {**_SLIDING, "use_sliding_window": True, "tie_word_embeddings": True},
    ),
    Family("qwen3", ("q/k norm", "own head size"), {"head_dim": 16}),
    Family("gemma", ("scaled embeddings", "GeGLU", "norm weight + 1"), {"head_dim": 16}),
    Family(
        "gemma2",
        ("softcap on scores and logits", "sliding window on some layers", "norms after blocks"),
        {
            **_SLIDING,
            "head_dim": 16,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    Family(
        "gemma3_text",
        ("RoPE by layer type", "q/k norm", "sliding window on some layers"),
        {
            **_SLIDING,
            "head_dim": 16,
            "query_pre_attn_scalar": 24,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0},
            },
        },
    ),
    Family(
        "phi",
        ("partial rotary", "parallel block", "LayerNorm", "biases"),
        {"qk_layernorm": True},
    ),
    Family("phi3", ("fused q/k/v and gate/up", "sliding window"), {"sliding_window": 8}),
    Family(
        "phi3-longrope",
        ("longrope, fixed for the artifact's context",),
        {**_rope("longrope", **_LONGROPE), "original_max_position_embeddings": 16},
    ),
    Family(
        "gpt2",
        ("learned positions", "weights stored [in, out]", "scaling by layer"),
        {**_GPT, "scale_attn_by_inverse_layer_idx": True},
        plain=False,
    ),
    Family("gpt_neox", ("parallel residual", "partial rotary", "fused q/k/v by head")),
    Family("gpt_neox-sequential", ("sequential residual",), {"use_parallel_residual": False}),
    Family("gptj", ("interleaved partial rotary table",), {**_GPT, "rotary_dim": 4}, plain=False),
    Family(
        "codegen",
        ("fused q/k/v in four shards", "interleaved rotary"),
        {**_GPT, "rotary_dim": 4},
        plain=False,
    ),
    Family(
        "gpt_neo",
        ("unscaled attention", "local window", "learned positions"),
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": CONTEXT_TOKENS,
        },
        plain=False,
    ),
    Family("gpt_bigcode", ("multi-query", "learned positions"), _GPT, plain=False),
    Family(
        "opt",
        ("learned positions with an offset", "ReLU"),
        {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32},
        plain=False,
    ),
    Family(
        "opt-postnorm",
        ("norm after blocks", "projected embeddings"),
        {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        plain=False,
    ),
    Family(
        "biogpt",
        ("learned positions with an offset", "scaled embeddings"),
        {**_SMALL, "pad_token_id": 1},
        plain=False,
    ),
    Family(
        "bloom",
        ("ALiBi", "norm after embedding"),
        {"vocab_size": 128, "hidden_size": 48, "n_layer": 2, "n_head": 6},
        plain=False,
    ),
    Family(
        "mpt",
        ("ALiBi", "clipped q/k/v", "no biases"),
        {
            "vocab_size": 128,
            "d_model": 48,
            "n_heads": 6,
            "n_layers": 2,
            "max_seq_len": CONTEXT_TOKENS,
            "attn_config": {"clip_qkv": 1.0},
        },
        plain=False,
    ),
    Family("falcon", ("multi-query", "parallel block"), {"num_kv_heads": 1}),
    Family(
        "falcon-new",
        ("new decoder architecture", "GQA", "two norms of one block"),
        {"new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    Family(
        "falcon-alibi",
        ("ALiBi", "sequential block", "biases"),
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    Family(
        "stablelm",
        ("partial rotary", "q/k norm by head", "parallel residual"),
        {"use_qkv_bias": True, "qk_layernorm": True, "use_parallel_residual": True},
    ),
    Family("starcoder2", ("sliding window", "LayerNorm", "biases"), {"sliding_window": 8}),
    Family("olmo", ("norm without weights", "clipped q/k/v"), {"clip_qkv": 1.0}),
    Family("olmo2", ("q/k norm over all heads", "norms after blocks")),
    Family("olmo3", ("sliding window on some layers", "q/k norm"), _SLIDING),
    Family(
        "cohere",
        ("parallel block", "interleaved RoPE", "scaled logits", "q/k norm"),
        {"use_qk_norm": True, "logit_scale": 0.25},
    ),
    Family(
        "cohere2",
        ("RoPE on sliding layers only", "sliding window", "parallel block"),
        {**_SLIDING, "head_dim": 8, "logit_scale": 0.25},
    ),
    Family(
        "granite",
        ("multipliers of embedding, attention, residual and logits",),
        _MULTIPLIERS,
    ),
    Family("nemotron", ("squared ReLU", "LayerNorm weight + 1", "partial rotary")),
    Family(
        "exaone4",
        ("RoPE on sliding layers only", "q/k norm", "norms after blocks"),
        {**_SLIDING, "sliding_window_pattern": 2},
    ),
    Family("glm", ("interleaved partial rotary", "fused gate/up"), {"head_dim": 8}),
    Family("glm4", ("four norms a block", "interleaved partial rotary"), {"head_dim": 8}),
    Family("ernie4_5", ("interleaved RoPE", "biases"), {"head_dim": 8, "use_bias": True}),
    Family("smollm3", ("layers without RoPE",), {"no_rope_layers": [1, 0]}),
    Family("hunyuan_v1_dense", ("q/k norm after RoPE",), {"head_dim": 8}),
    Family("seed_oss", ("q/k/v biases", "own head size"), {"head_dim": 16}),
    Family("apertus", ("xIELU", "q/k norm")),
    Family("arcee", ("squared ReLU",)),
    Family("helium", ("interleaved RoPE",), {"head_dim": 8}),
    Family("persimmon", ("fused q/k/v", "q/k norm", "squared ReLU")),
    Family(
        "ministral",
        ("sliding window on some layers",),
        {**_SLIDING, "head_dim": 8, **_rope("default")},
    ),
    Family(
        "ministral3",
        ("queries scaled by position", "YaRN"),
        {
            "head_dim": 8,
            **_rope(
                "yarn",
                factor=4.0,
                original_max_position_embeddings=8,
                llama_4_scaling_beta=0.5,
            ),
        },
    ),
    Family("cwm", ("sliding window on some layers",), {**_SLIDING, "head_dim": 8}),
    Family(
        "vaultgemma",
        ("softcap on scores and logits",),
        {
            **_SLIDING,
            "head_dim": 16,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    Family("diffllama", ("differential attention",)),
    Family("bitnet", ("norms inside attention and MLP",)),
    Family("nanochat", ("ReLU squared", "norm without weights")),
    Family(
        "granite_swa",
        ("attention sinks", "sliding window on some layers", "multipliers"),
        {**_SLIDING, **_MULTIPLIERS},
    ),
    Family("ctrl", ("sinusoidal positions", "LayerNorm", "biases"), {"dff": 48}),
    Family("xglm", ("sinusoidal positions with an offset", "scaled embeddings"), _XGLM),
    Family(
        "gpt_neox_japanese",
        ("fused q/k/v by head", "bias of the last attention alone"),
        {"intermediate_multiple_size": 2},
    ),
    Family(
        "minicpm3",
        ("multi-head latent attention", "keys wider than values", "scaled residuals"),
        {"num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16}
        | {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12},
    ),
    Family("hyperclovax", ("multipliers", "norms after blocks"), _MULTIPLIERS),
    Family("jais2", ("squared ReLU", "LayerNorm")),
)
