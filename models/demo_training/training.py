"""A stream of tokens to a trained Llama: the demo model, or the draft that learns from it too."""

import json
import logging
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ingot.models.demo_training.corpus import BLOCKS_PER_STEP, read_blocks
from ingot.models.demo_training.tokenizer import CONTEXT_TOKENS, VOCAB_SIZE

log = logging.getLogger(__name__)


def create_model(is_draft: bool) -> LlamaForCausalLM:
    if is_draft:
        shape = dict(hidden_size=128, intermediate_size=160, num_hidden_layers=2)
        heads = dict(num_attention_heads=4, num_key_value_heads=2)
    else:
        shape = dict(hidden_size=256, intermediate_size=640, num_hidden_layers=4)
        heads = dict(num_attention_heads=8, num_key_value_heads=2)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="sdpa",
        **shape,
        **heads,
    )
    return LlamaForCausalLM(config).float()


def create_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    table = model.model.embed_tokens.weight
    muon = torch.optim.Muon(
        matrices, lr=5e-3, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    groups = [dict(params=[table], weight_decay=0.01), dict(params=norms, weight_decay=0.0)]
    adamw = torch.optim.AdamW(groups, lr=4e-3, betas=(0.9, 0.95), fused=True)
    return [muon, adamw]


def schedule(progress: float) -> tuple[float, int]:
    """The learning rate's factor and the length of a training sequence, in tokens."""
    factor = min(1.0, progress / 0.03) if progress < 0.35 else (1 - progress) / 0.65
    length = 256 if progress < 0.6 else 512 if progress < 0.9 else CONTEXT_TOKENS
    return max(factor, 1e-3), length


@dataclass(frozen=True)
class Budget:
    """How long to train: wall-clock seconds or, when `num_steps` is set, exactly that many."""

    seconds: float
    num_steps: int | None = None

    def progress(self, step: int, elapsed_s: float) -> float:
        return step / self.num_steps if self.num_steps else elapsed_s / self.seconds


def train(
    model: LlamaForCausalLM,
    stream: torch.Tensor,
    budget: Budget,
    rng: np.random.Generator,
    checkpoint: Path,
    teacher: LlamaForCausalLM | None = None,
    use_bfloat16: bool = True,
    use_compile: bool = True,
) -> dict[str, Any]:
    """Train in place, from the checkpoint if there is one. It goes on with the same data.

    With a teacher, half of the loss is the distance to the teacher's distribution.
    """
    optimizers = create_optimizers(model)
    base_rates = [[g["lr"] for g in o.param_groups] for o in optimizers]

    def compute_logits(net: Any, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
            logits: torch.Tensor = net(input_ids=ids, use_cache=False).logits
        return logits.float().flatten(0, 1)

    def compute_loss(ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = compute_logits(model, ids)
        entropy = F.cross_entropy(logits, labels.flatten())
        if teacher is None:
            return entropy, entropy
        with torch.no_grad():
            target = compute_logits(teacher, ids).softmax(-1)
        return 0.5 * (entropy + F.cross_entropy(logits, target)), entropy

    run = torch.compile(compute_loss, dynamic=False) if use_compile else compute_loss
    model.train()
    step, spent_s, losses = 0, 0.0, []
    if checkpoint.exists():
        state = torch.load(checkpoint)
        step, spent_s = state["step"], state["seconds"]
        model.load_state_dict(state["model"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        log.info(f"resumed {checkpoint} at step {step}")
    saved = time.monotonic()
    start = saved - spent_s
    for block in islice(read_blocks(stream, rng), step, None):
        progress = budget.progress(step, time.monotonic() - start)
        if progress >= 1:
            break
        factor, length = schedule(progress)
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        ids, labels = block[:, :-1].reshape(-1, length), block[:, 1:].reshape(-1, length)
        loss, entropy = run(ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        losses.append(entropy.item())
        step += 1
        if step % 20 == 0:
            rate = step * block[:, 1:].numel() / (time.monotonic() - start)
            mean = sum(losses[-20:]) / len(losses[-20:])
            log.info(f"step {step} {progress:6.1%} loss {mean:.4f} {rate:.0f} tokens/s")
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            state = {"step": step, "seconds": saved - start, "model": model.state_dict()}
            state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
            checkpoint.parent.mkdir(parents=True, exist_ok=True)  # someone may clean build/
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    seconds = round(time.monotonic() - start)
    return {"steps": step, "tokens": step * BLOCKS_PER_STEP * CONTEXT_TOKENS, "seconds": seconds}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the bfloat16 weights, the configs and the tokenizer, all at fixed bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16)
    # Both ends of text stop a generation: a document's and a chat turn's.
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=[0, 2], pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
