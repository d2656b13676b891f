"""Builds a toy artifact with TVM: `python toy_artifact.py FOLDER`, in a process of its own.

The toy model's logits are a fading sum of one row of E for each token of the context,

    logits[r, v] = sum over t <= position of DECAY ** (position - t) * E[token_t, v]

with the tokens read back from the paged K pool: a slot, a page table or a position that is wrong
shows in the text. `toy_logits` is the same in NumPy.
"""

# ruff: noqa: F841 - TVMScript declares symbols and buffers that the body need not use

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 64
PAGE = 16
MAX_CONTEXT = 256
DECAY = 0.5


def toy_weights() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((VOCAB, VOCAB)).astype(np.float32)


def toy_logits(tokens: list[int]) -> np.ndarray:
    """The logits after the last of `tokens`."""
    weights = toy_weights()
    fade = DECAY ** np.arange(len(tokens) - 1, -1, -1, dtype=np.float64)
    return (fade[:, None] * weights[tokens]).sum(0)


def write_tokenizer(folder: Path) -> None:
    """A byte-free word-level tokenizer: token i is the text "i " and 0 is the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {"<end>": 0, **{f"w{i}": i for i in range(1, VOCAB)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "eos_token": "<end>",
        "chat_template": "{% for m in messages %}{{ m.content }} {% endfor %}w1",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))


def toy_manifest(**changes: Any) -> Any:
    """The toy model's manifest, without files or weights unless they are given."""
    from importlib import metadata

    from ingot.runtime.artifact.manifest import Manifest

    record: dict[str, Any] = {
        "ingot_version": "0.1.0",
        "model": {
            "name": "toy",
            "source": "tests",
            "revision": None,
            "architecture": "Toy",
            "model_type": "toy",
            "config": {},
            "num_parameters": VOCAB * VOCAB,
        },
        "target": {
            "name": "cpu:x86-64-v3",
            "kind": "cpu",
            "llvm_triple": "x86_64-linux-gnu",
            "llvm_cpu": "x86-64-v3",
            "features": ["avx2", "fma", "f16c"],
            "page_size_tokens": PAGE,
        },
        "scheme": {
            "name": "f32",
            "linear": "f32",
            "embedding": "f32",
            "head": "f32",
            "kv_dtype": "float32",
            "activations": "float32",
        },
        "step": {
            "vocab_size": VOCAB,
            "max_context_tokens": MAX_CONTEXT,
            "num_layers": 1,
            "hidden_size": 1,
        },
        "kv_slots": [
            {"kv_heads": 1, "key_dim": 1, "value_dim": 1, "window": 0, "dtype": "float32"}
        ],
        "weights": [],
        "files": [],
        "versions": {"apache-tvm": metadata.version("apache-tvm")},
        "proof": {"status": "unproven"},
    }
    return Manifest.model_validate({**record, **changes})


def build_module() -> Any:
    from tvm.script import ir as I
    from tvm.script import relax as R
    from tvm.script import tirx as T

    @I.ir_module
    class Toy:
        @T.prim_func(s_tir=True, private=True)
        def store_and_score(
            token_ids: T.handle,
            positions: T.handle,
            slots: T.handle,
            page_table: T.handle,
            query_offsets: T.handle,
            context_lengths: T.handle,
            logit_rows: T.handle,
            weight: T.Buffer((VOCAB, VOCAB), "float32"),
            k_pool: T.handle,
            logits: T.handle,
        ) -> None:
            n, b, p, m, pages = T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
            ids = T.match_buffer(token_ids, (n,), "int32")
            places = T.match_buffer(positions, (n,), "int32")
            where = T.match_buffer(slots, (n,), "int32")
            table = T.match_buffer(page_table, (b, p), "int32")
            offsets = T.match_buffer(query_offsets, (b + T.int64(1),), "int32")
            lengths = T.match_buffer(context_lengths, (b,), "int32")
            rows = T.match_buffer(logit_rows, (m,), "int32")
            keys = T.match_buffer(k_pool, (pages, 1, 1, PAGE), "float32")
            out = T.match_buffer(logits, (m, VOCAB), "float32")
            T.func_attr({"tirx.is_scheduled": True})
            with T.sblock("root"):
                T.reads()
                T.writes()
                for i in range(n):
                    if where[i] >= 0:
                        keys[where[i] // PAGE, 0, 0, where[i] % PAGE] = T.float32(ids[i])
                for s in range(b):
                    for r in range(m):
                        if rows[r] >= offsets[s] and rows[r] < offsets[s + 1]:
                            for v in range(VOCAB):
                                out[r, v] = T.float32(0)
                            for t in range(places[rows[r]] + 1):
                                for v in range(VOCAB):
                                    out[r, v] = (
                                        out[r, v] * T.float32(DECAY)
                                        + weight[
                                            T.int32(keys[table[s, t // PAGE], 0, 0, t % PAGE]), v
                                        ]
                                    )

        @T.prim_func(s_tir=True, private=True)
        def choose(
            logits: T.handle,
            temperature: T.handle,
            uniform: T.handle,
            tokens: T.handle,
        ) -> None:
            m = T.int64()
            scores = T.match_buffer(logits, (m, VOCAB), "float32")
            heat = T.match_buffer(temperature, (m,), "float32")
            drawn = T.match_buffer(uniform, (m,), "float32")
            out = T.match_buffer(tokens, (m,), "int32")
            T.func_attr({"tirx.is_scheduled": True})
            with T.sblock("root"):
                T.reads()
                T.writes()
                total = T.sblock_alloc_buffer((1,), "float32")
                best = T.sblock_alloc_buffer((1,), "float32")
                for r in range(m):
                    best[0] = T.float32(-1e38)
                    for v in range(VOCAB):
                        if scores[r, v] > best[0]:
                            best[0] = scores[r, v]
                            out[r] = v
                    if heat[r] > T.float32(0):
                        total[0] = T.float32(0)
                        for v in range(VOCAB):
                            total[0] = total[0] + T.exp((scores[r, v] - best[0]) / heat[r])
                        total[0] = total[0] * drawn[r]
                        for v in range(VOCAB):
                            if total[0] >= T.float32(0):
                                out[r] = v
                            total[0] = total[0] - T.exp((scores[r, v] - best[0]) / heat[r])

        @T.prim_func(s_tir=True, private=True)
        def adjust(
            row_offsets: T.handle,
            tokens: T.handle,
            output_counts: T.handle,
            seen: T.handle,
            bias: T.handle,
            repetition: T.handle,
            presence: T.handle,
            frequency: T.handle,
            logits: T.handle,
        ) -> None:
            m, z = T.int64(), T.int64()
            offsets = T.match_buffer(row_offsets, (m + T.int64(1),), "int32")
            ids = T.match_buffer(tokens, (z,), "int32")
            counts = T.match_buffer(output_counts, (z,), "int32")
            known = T.match_buffer(seen, (z,), "int32")
            added = T.match_buffer(bias, (z,), "float32")
            repeat = T.match_buffer(repetition, (m,), "float32")
            present = T.match_buffer(presence, (m,), "float32")
            often = T.match_buffer(frequency, (m,), "float32")
            scores = T.match_buffer(logits, (m, VOCAB), "float32")
            T.func_attr({"tirx.is_scheduled": True})
            with T.sblock("root"):
                T.reads()
                T.writes()
                for r in range(m):
                    for i in range(offsets[r + T.int64(1)] - offsets[r]):
                        j = T.int32(offsets[r] + i)
                        v = T.int32(ids[j])
                        if known[j] == 1:
                            if scores[r, v] > T.float32(0):
                                scores[r, v] = scores[r, v] / repeat[r]
                            else:
                                scores[r, v] = scores[r, v] * repeat[r]
                        if counts[j] > 0:
                            scores[r, v] = scores[r, v] - present[r]
                        scores[r, v] = scores[r, v] - often[r] * T.float32(counts[j]) + added[j]

        @R.function
        def sample(
            logits: R.Tensor(("m", VOCAB), "float32"),
            temperature: R.Tensor(("m",), "float32"),
            top_k: R.Tensor(("m",), "int32"),
            top_p: R.Tensor(("m",), "float32"),
            min_p: R.Tensor(("m",), "float32"),
            uniform: R.Tensor(("m",), "float32"),
        ) -> R.Tensor(("m",), "int32"):
            m = T.int64()
            cls = Toy
            tokens = R.call_tir(
                cls.choose, (logits, temperature, uniform), out_ty=R.Tensor((m,), "int32")
            )
            return tokens

        @R.function
        def penalize(
            logits: R.Tensor(("m", VOCAB), "float32"),
            row_offsets: R.Tensor(("m + 1",), "int32"),
            tokens: R.Tensor(("z",), "int32"),
            output_counts: R.Tensor(("z",), "int32"),
            seen: R.Tensor(("z",), "int32"),
            bias: R.Tensor(("z",), "float32"),
            repetition: R.Tensor(("m",), "float32"),
            presence: R.Tensor(("m",), "float32"),
            frequency: R.Tensor(("m",), "float32"),
        ) -> R.Tensor(("m", VOCAB), "float32"):
            m, z = T.int64(), T.int64()
            cls = Toy
            changed = R.call_tir_inplace(
                cls.adjust,
                (
                    row_offsets,
                    tokens,
                    output_counts,
                    seen,
                    bias,
                    repetition,
                    presence,
                    frequency,
                    logits,
                ),
                [8],
                [R.Tensor((m, VOCAB), "float32")],
            )
            return changed

        @R.function
        def step(
            token_ids: R.Tensor(("n",), "int32"),
            positions: R.Tensor(("n",), "int32"),
            slots: R.Tensor(("n",), "int32"),
            page_table: R.Tensor(("b", "p"), "int32"),
            query_offsets: R.Tensor(("b + 1",), "int32"),
            context_lengths: R.Tensor(("b",), "int32"),
            logit_rows: R.Tensor(("m",), "int32"),
            kv_pools: R.Tuple(
                R.Tensor(("pages", 1, 1, PAGE), "float32"),
                R.Tensor(("pages", 1, PAGE, 1), "float32"),
            ),
            weights: R.Tuple(R.Tensor((VOCAB, VOCAB), "float32")),
        ) -> R.Tensor(("m", VOCAB), "float32"):
            n, b, p, m, pages = T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
            cls = Toy
            k_pool = kv_pools[0]
            weight = weights[0]
            done = R.call_tir_inplace(
                cls.store_and_score,
                (
                    token_ids,
                    positions,
                    slots,
                    page_table,
                    query_offsets,
                    context_lengths,
                    logit_rows,
                    weight,
                    k_pool,
                ),
                [8, -1],
                [R.Tensor((pages, 1, 1, PAGE), "float32"), R.Tensor((m, VOCAB), "float32")],
            )
            logits = done[1]
            return logits

        @R.function
        def trace(
            token_ids: R.Tensor(("n",), "int32"),
            positions: R.Tensor(("n",), "int32"),
            slots: R.Tensor(("n",), "int32"),
            page_table: R.Tensor(("b", "p"), "int32"),
            query_offsets: R.Tensor(("b + 1",), "int32"),
            context_lengths: R.Tensor(("b",), "int32"),
            logit_rows: R.Tensor(("m",), "int32"),
            kv_pools: R.Tuple(
                R.Tensor(("pages", 1, 1, PAGE), "float32"),
                R.Tensor(("pages", 1, PAGE, 1), "float32"),
            ),
            weights: R.Tuple(R.Tensor((VOCAB, VOCAB), "float32")),
        ) -> R.Tuple(R.Tensor(("m", VOCAB), "float32"), R.Tensor(("n",), "int32")):
            n, b, p, m, pages = T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
            cls = Toy
            k_pool = kv_pools[0]
            weight = weights[0]
            done = R.call_tir_inplace(
                cls.store_and_score,
                (
                    token_ids,
                    positions,
                    slots,
                    page_table,
                    query_offsets,
                    context_lengths,
                    logit_rows,
                    weight,
                    k_pool,
                ),
                [8, -1],
                [R.Tensor((pages, 1, 1, PAGE), "float32"), R.Tensor((m, VOCAB), "float32")],
            )
            logits = done[1]
            return (logits, positions)

    return Toy


def write_toy_artifact(folder: Path) -> None:
    """Compile the toy model and write its artifact. Imports TVM's compiler."""
    import tvm
    from tvm import relax

    from ingot.compile.fast_inspect import fast_inspect
    from ingot.runtime.artifact import TensorSpec, WeightsWriter, write_manifest
    from ingot.runtime.artifact.manifest import describe_files

    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
    with fast_inspect():
        module = build_module()
    relax.build(module, target).export_library(str(folder / "model.so"))
    with WeightsWriter(folder, [TensorSpec("E", "float32", (VOCAB, VOCAB))]) as writer:
        writer.append("E", toy_weights())
    write_tokenizer(folder)
    names = ["model.so", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    files = (*describe_files(folder, names), *writer.files)
    write_manifest(folder, toy_manifest(weights=tuple(writer.weights), files=files))


if __name__ == "__main__":
    write_toy_artifact(Path(sys.argv[1]))
