"""A trained model to figures on held-out texts and to sample completions."""

import math

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ingot.models.demo_training.tokenizer import CONTEXT_TOKENS, END_OF_TEXT


@torch.no_grad()
def evaluate(
    model: LlamaForCausalLM, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Perplexity of a token and bits of a byte over whole texts, in windows of the context."""
    model.eval()
    batches = tokenizer.backend_tokenizer.encode_batch([END_OF_TEXT + t for t in texts])
    stream = torch.tensor([i for e in batches for i in e.ids])
    nats, num_tokens = 0.0, 0
    for start in range(0, len(stream) - 1, CONTEXT_TOKENS):
        window = stream[start : start + CONTEXT_TOKENS + 1]
        logits = model(window[None, :-1]).logits[0].float()
        nats += F.cross_entropy(logits, window[1:], reduction="sum").item()
        num_tokens += len(window) - 1
    num_bytes = sum(len(t.encode()) for t in texts)
    return {
        "files": len(texts),
        "tokens": num_tokens,
        "bytes": num_bytes,
        "perplexity": round(math.exp(nats / num_tokens), 3),
        "bits_per_byte": round(nats / math.log(2) / num_bytes, 4),
    }


@torch.no_grad()
def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, num_tokens: int = 80
) -> str:
    model.eval()
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens)
    return str(tokenizer.decode(out[0]))
