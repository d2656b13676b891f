"""The standard library's sources to the embedded demo model, its draft and their tokenizer.

Needs torch and transformers, two cores and about an hour; reads nothing but the sources of the
Python that runs it. `python -m ingot.models.demo_training --out models/demo` retrains from nothing.
The schedule follows the wall clock (`--minutes`) or `--steps`, which a busy machine cannot spoil
and which repeats a run exactly. A run that was stopped goes on from its checkpoint in `--work`.
"""

import argparse
import json
import logging
import platform
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from ingot.models.demo_training.card import write_card
from ingot.models.demo_training.corpus import encode_training, read_corpus
from ingot.models.demo_training.evaluation import complete, evaluate
from ingot.models.demo_training.tokenizer import train_tokenizer
from ingot.models.demo_training.training import Budget, create_model, save, train

log = logging.getLogger("ingot.models.demo_training")

PROMPTS = ("def ", "import ", "class Node:\n    def __init__(self", "    for i in range(")


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


main()
