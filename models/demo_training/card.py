"""What training measured to the model card."""

import json
from pathlib import Path
from typing import Any

from ingot.models.demo_training.corpus import BLOCKS_PER_STEP, HELD_OUT_PERCENT
from ingot.models.demo_training.tokenizer import CONTEXT_TOKENS, VOCAB_SIZE

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
