"""The eager text is greedy decoding of the model that the artifact was made from."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from ingot.eager import complete_eagerly
from ingot.models.resolve import resolve_model
from ingot.runtime.artifact.manifest import (
    Manifest,
    ModelRecord,
    ProofRecord,
    SchemeRecord,
    StepRecord,
    TargetRecord,
    write_manifest,
)

VOCAB, CONTEXT = 32, 24


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A checkpoint, and as much of an artifact of it as is read: manifest and tokenizer."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(tmp_path / "checkpoint")
    folder = tmp_path / "artifact"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    formats = dict.fromkeys(("linear", "embedding", "head"), "f32")
    manifest = Manifest(
        ingot_version="0",
        model=ModelRecord(
            name="checkpoint",
            source="checkpoint",
            revision=None,
            architecture="LlamaForCausalLM",
            model_type="llama",
            config={},
            num_parameters=1,
        ),
        target=TargetRecord(name="cpu:x86-64-v3", kind="cpu", page_size_tokens=32),
        scheme=SchemeRecord(name="f32", kv_dtype="float32", activations="float32", **formats),
        step=StepRecord(vocab_size=VOCAB, max_context_tokens=CONTEXT, num_layers=1, hidden_size=16),
        kv_slots=(),
        weights=(),
        files=(),
        versions={},
        proof=ProofRecord(status="unproven"),
    )
    write_manifest(folder, manifest)
    return folder


def decode_greedily(checkpoint: Path, token_ids: list[int], count: int) -> str:
    model = LlamaForCausalLM.from_pretrained(checkpoint)
    prompt_length = len(token_ids)
    with torch.inference_mode():
        for _ in range(count):
            logits = model(torch.tensor([token_ids])).logits
            token_ids = [*token_ids, int(logits[0, -1].argmax())]
    return " ".join(f"w{token}" for token in token_ids[prompt_length:])


def test_text_is_greedy(artifact: Path) -> None:
    source = resolve_model(str(artifact.parent / "checkpoint"))
    expected = decode_greedily(source.path, [3, 5], 6)
    assert complete_eagerly(artifact, source, "w3 w5", 6) == expected


def test_without_a_limit_the_context_is_filled(artifact: Path) -> None:
    source = resolve_model(str(artifact.parent / "checkpoint"))
    assert len(complete_eagerly(artifact, source, "w3 w5").split()) == CONTEXT - 2
