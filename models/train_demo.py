"""The standard library's sources to the embedded demo model, its draft and their tokenizer.

Needs torch and transformers, two cores and about an hour; reads nothing but the sources of the
Python that runs it. `python -m ingot.models.train_demo --out models/demo` retrains from nothing.
The schedule follows the wall clock (`--minutes`) or `--steps`, which a busy machine cannot spoil
and which repeats a run exactly. A run that was stopped goes on from its checkpoint in `--work`.
"""

import argparse
import ast
import hashlib
import json
import logging
import math
import platform
import re
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger("ingot.train_demo")

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCAB_SIZE = 2048
CONTEXT_TOKENS = 1024
BLOCKS_PER_STEP = 8
HELD_OUT_PERCENT = 3

# A line break takes the indentation after it, so one token says both; a word takes one space.
PIECE = r"(?:\r?\n)+[ \t]*| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}_]+|_+|[ \t]+(?=[ \t])|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PROMPTS = ("def ", "import ", "class Node:\n    def __init__(self", "    for i in range(")


@dataclass(frozen=True)
class Document:
    path: str
    text: str
    is_test: bool

    @property
    def is_held_out(self) -> bool:
        return fraction(self.path) < HELD_OUT_PERCENT / 100


def fraction(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def read_corpus() -> list[Document]:
    """Every module of the standard library that parses and is not a table of data."""
    root = Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if "site-packages" in relative.parts or "pydoc_data" in relative.parts:
            continue
        try:
            text = file.read_text(encoding="utf-8")
            ast.parse(text)
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue
        num_words = sum(len(word) for word in re.findall(r"[A-Za-z_\s]+", text))
        if not 200 < len(text) < 400_000 or num_words < 0.7 * len(text):
            continue
        is_test = bool({"test", "tests", "idle_test"} & set(relative.parts))
        documents.append(Document(relative.as_posix(), text, is_test))
    return documents


def read_chats(documents: list[Document]) -> list[str]:
    """Short functions as answers to the first line of their docstrings, in ChatML."""
    chats = []
    for document in documents:
        for node in ast.walk(ast.parse(document.text)):
            if not isinstance(node, ast.FunctionDef) or not (doc := ast.get_docstring(node)):
                continue
            question = doc.strip().split("\n")[0]
            lines = document.text.splitlines()[node.lineno - 1 : node.end_lineno]
            source = "\n".join(line.removeprefix(" " * node.col_offset) for line in lines)
            if 15 < len(question) < 100 and len(source) < 1000:
                chats.append(
                    f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n{source}{IM_END}\n"
                )
    return chats


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which a line break with its indentation can be one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[IM_START, IM_END],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def cut(text: str, rng: np.random.Generator) -> list[str]:
    """Break a text where a prompt might end, so that `def ` is a prompt the model has seen.

    A word's token carries the space before it; without cuts the model would never continue a
    prompt that ends in a space, nor one that ends in the middle of a word.
    """
    spaces = [m.end() for m in re.finditer(r"(?<=\S) (?=\S)", text)]
    chosen = {p for p, keep in zip(spaces, rng.random(len(spaces)) < 0.04, strict=True) if keep}
    chosen |= set(rng.integers(1, len(text), size=len(text) // 500).tolist())
    edges = [0, *sorted(chosen), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def encode_training(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> torch.Tensor:
    """One shuffled stream: the library twice (with other cuts), its tests and the chats once."""
    fast = tokenizer.backend_tokenizer
    texts = [cut(d.text, rng) for d in documents for _ in range(1 if d.is_test else 2)]
    texts += [[chat] for chat in read_chats([d for d in documents if not d.is_test])]
    streams = []
    for index in rng.permutation(len(texts)):
        pieces = [END_OF_TEXT, *texts[index]]
        ids = [i for e in fast.encode_batch_fast(pieces, add_special_tokens=False) for i in e.ids]
        streams.append(np.array(ids, dtype=np.int16))
    return torch.from_numpy(np.concatenate(streams))


def read_blocks(stream: torch.Tensor, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of CONTEXT_TOKENS + 1 tokens, every block once an epoch."""
    while True:
        offset = int(rng.integers(CONTEXT_TOKENS))
        starts = np.arange(offset, len(stream) - CONTEXT_TOKENS - 1, CONTEXT_TOKENS)
        rng.shuffle(starts)
        for i in range(0, len(starts) - BLOCKS_PER_STEP, BLOCKS_PER_STEP):
            chosen = starts[i : i + BLOCKS_PER_STEP]
            yield torch.stack([stream[s : s + CONTEXT_TOKENS + 1] for s in chosen]).long()


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


CARD = """\
---
license: other
license_name: psf-2.0
pipeline_tag: text-generation
language: code
---
# The demo model

A Llama-architecture decoder of {demo[parameters]:,} parameters and a draft model of \
{draft[parameters]:,} (`draft/`), both in bfloat16, with one byte-level BPE of {vocab} tokens.
They write text that looks like Python. They exist so that the compiler, its quantization and its
speculative decoding can be shown and tested with no download and no network. They are for nothing
else: what they write is neither correct nor safe to run.

## Training data

The standard library of Python {data[python]}: {data[files]} files, {data[bytes]:,} bytes. The \
library's modules are read twice
an epoch, its tests once, and its short functions once more as answers to the first line of their
docstrings, in ChatML: {data[epoch_tokens]:,} tokens an epoch. Left out are `site-packages`, files
that do not parse, tables of data, and {held_out} percent of the files, chosen by a hash of the \
path and never
read in training, nor by the tokenizer.

The library is licensed under the Python Software Foundation License Version 2, Copyright (c) 2001
Python Software Foundation; All Rights Reserved. A completion can repeat passages of it; those stay
under that license.

## Training

`make demo-model` trains both from nothing on {data[threads]} CPU cores: Muon for the matrices, \
AdamW for the rest,
seed {data[seed]}, {step_tokens} tokens a step, sequences of 256, then 512, then {context} tokens. \
`--steps` and
`--draft-steps` take the numbers below and repeat the run.
The draft learns from the text and, in equal parts, from the demo model's distribution.

| | steps | tokens | minutes |
| --- | --- | --- | --- |
{training}

## On held-out files

Windows of {context} tokens that do not overlap, weights in bfloat16 computed in float32.

| | files | tokens | bytes | perplexity of a token | bits a byte |
| --- | --- | --- | --- | --- | --- |
{quality}

## Greedy completions

{samples}"""


def write_card(report: dict[str, Any], path: Path) -> None:
    """Write the model card from what was measured."""
    training, quality, samples = [], [], []
    for name in ("demo", "draft"):
        run = report[name]
        minutes = run["seconds"] / 60
        training.append(f"| {name} | {run['steps']:,} | {run['tokens']:,} | {minutes:.0f} |")
        for part in ("library", "tests"):
            row = run[part]
            counts = f"{row['files']} | {row['tokens']:,} | {row['bytes']:,}"
            scores = f"{row['perplexity']:.2f} | {row['bits_per_byte']:.3f}"
            quality.append(f"| {name}, {part} | {counts} | {scores} |")
        for prompt, text in run["samples"].items():
            samples.append(f"{name}, from `{json.dumps(prompt)}`:\n```python\n{text}\n```\n")
    card = CARD.format(
        **report,
        vocab=VOCAB_SIZE,
        context=CONTEXT_TOKENS,
        held_out=HELD_OUT_PERCENT,
        step_tokens=BLOCKS_PER_STEP * CONTEXT_TOKENS,
        training="\n".join(training),
        quality="\n".join(quality),
        samples="\n".join(samples),
    )
    path.write_text(card, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="checkpoints, report")
    parser.add_argument("--minutes", type=float, default=42.0)
    parser.add_argument("--draft-minutes", type=float, default=9.0)
    parser.add_argument("--steps", type=int, help="exact steps instead of --minutes")
    parser.add_argument("--draft-steps", type=int, help="exact steps instead of --draft-minutes")
    parser.add_argument("--only", choices=("demo", "draft"), help="keep the other one as it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    documents = read_corpus()
    kept = [d for d in documents if not d.is_held_out]
    held_out = [d for d in documents if d.is_held_out]
    tokenizer = train_tokenizer(d.text for d in kept)
    stream = encode_training(kept, tokenizer, np.random.default_rng(args.seed))
    log.info(f"{len(kept)} files, {len(held_out)} held out, {len(stream)} tokens an epoch")

    report_path = args.work / "report.json"
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    report["data"] = {
        "python": platform.python_version(),
        "files": len(kept),
        "bytes": sum(len(d.text.encode()) for d in kept),
        "epoch_tokens": len(stream),
        "seed": args.seed,
        "threads": args.threads,
    }
    budgets = {
        "demo": Budget(args.minutes * 60, args.steps),
        "draft": Budget(args.draft_minutes * 60, args.draft_steps),
    }
    folders = {"demo": args.out, "draft": args.out / "draft"}
    for name in [args.only] if args.only else ["demo", "draft"]:
        torch.manual_seed(args.seed)
        model = create_model(is_draft=name == "draft")
        teacher = None
        if name == "draft":
            teacher = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
        rng = np.random.default_rng(args.seed + 1)
        checkpoint = args.work / f"{name}.pt"
        entry = train(
            model, stream, budgets[name], rng, checkpoint, teacher, args.bfloat16, args.compile
        )
        save(model, tokenizer, folders[name])
        checkpoint.unlink(missing_ok=True)  # the next run starts from nothing
        model = LlamaForCausalLM.from_pretrained(folders[name], dtype=torch.float32)
        entry["parameters"] = model.num_parameters()
        for part, is_test in (("library", False), ("tests", True)):
            texts = [d.text for d in held_out if d.is_test == is_test]
            entry[part] = evaluate(model, texts, tokenizer)
        entry["samples"] = {p: complete(model, tokenizer, p) for p in PROMPTS}
        report[name] = entry
        report_path.write_text(json.dumps(report, indent=2) + "\n")
        log.info(json.dumps(entry, indent=2))
    write_card(report, args.out / "README.md")


if __name__ == "__main__":
    main()
