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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 64
PAGE = 16
MAX_CONTEXT = 256
DECAY = 0.5


@cache
def toy_weights() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((VOCAB, VOCAB)).astype(np.float32)


def toy_logits(tokens: list[int]) -> np.ndarray:
    """The logits after the last of `tokens`."""
    weights = toy_weights()
    fade = DECAY ** np.arange(len(tokens) - 1, -1, -1, dtype=np.float64)
    return (fade[:, None] * weights[tokens]).sum(0)


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of words: token i is the text "wi" and 0 is the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {"<end>": 0, **{f"w{i}": i for i in range(1, VOCAB)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.ByteLevel()  # one that constraints know
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
            "hidden_size": VOCAB,
            "functions": {"embed": "embed"},
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


def build_store_and_score() -> Any:
    """The toy model in one kernel: write the tokens to the K pool, read them back, add up."""
    from tvm.script import tirx as T

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
        keys = T.match_buffer(k_pool, (pages, 1, PAGE), "float32")
        out = T.match_buffer(logits, (m, VOCAB), "float32")
        T.func_attr({"tirx.is_scheduled": True})
        with T.sblock("root"):
            T.reads()
            T.writes()
            for i in range(n):
                if where[i] >= 0:
                    keys[where[i] // PAGE, 0, where[i] % PAGE] = T.float32(ids[i])
            for s in range(b):
                for r in range(m):
                    if rows[r] >= offsets[s] and rows[r] < offsets[s + 1]:
                        for v in range(VOCAB):
                            out[r, v] = T.float32(0)
                        for t in range(places[rows[r]] + 1):
                            for v in range(VOCAB):
                                out[r, v] = (
                                    out[r, v] * T.float32(DECAY)
                                    + weight[T.int32(keys[table[s, t // PAGE], 0, t % PAGE]), v]
                                )

    return store_and_score


def add_step(builder: Any, kernel: Any, name: str, *, is_trace: bool) -> None:
    """`step`, or `embed`, as there is no head after the sums; or `trace`, whose only hidden state
    is the positions."""
    from tvm import relax, tirx

    from ingot.compile.step_inputs import create_step_inputs

    n, m, pages = (tirx.Var(symbol, "int64") for symbol in ("n", "m", "pages"))
    inputs = create_step_inputs(n, m)
    k_pool = relax.TensorType((pages, 1, PAGE), "float32")
    v_pool = relax.TensorType((pages, PAGE, 1), "float32")
    matrix = relax.TensorType((VOCAB, VOCAB), "float32")
    pools = relax.Var("kv_pools", relax.TupleType([k_pool, v_pool]))
    weights = relax.Var("weights", relax.TupleType([matrix]))
    with builder.function(name, [*inputs.as_list(), pools, weights]):
        keys = builder.emit(relax.TupleGetItem(pools, 0))
        weight = builder.emit(relax.TupleGetItem(weights, 0))
        arguments = [*inputs.as_list(), weight, keys]
        scores = relax.TensorType((m, VOCAB), "float32")
        call = relax.op.call_tir_inplace(kernel, arguments, [8, -1], [k_pool, scores])
        logits = builder.emit(relax.TupleGetItem(builder.emit(call), 1))
        if is_trace:
            logits = builder.emit(relax.Tuple([logits, inputs.positions]))
        builder.emit_func_output(logits)


def build_module() -> Any:
    """All functions of an artifact; sampling is the compiler's own."""
    from tvm import relax

    from ingot.compile.sampling_functions import add_sampling
    from ingot.targets import resolve_target

    builder = relax.BlockBuilder()
    kernel = builder.add_func(build_store_and_score(), "store_and_score")
    add_step(builder, kernel, "step", is_trace=False)
    add_step(builder, kernel, "embed", is_trace=False)
    add_step(builder, kernel, "trace", is_trace=True)
    return add_sampling(builder.get(), VOCAB, resolve_target(toy_manifest().target.name))


def write_toy_artifact(folder: Path) -> None:
    """Compile the toy model and write its artifact. Imports TVM's compiler."""
    from ingot.compile.build import generate, lower_to_calls, place_tensors
    from ingot.compile.fast_inspect import fast_inspect
    from ingot.compile.memory import give_memory
    from ingot.compile.pipeline import DIMENSIONS
    from ingot.runtime.artifact import TensorSpec, WeightsWriter, write_manifest
    from ingot.runtime.artifact.manifest import describe_files
    from ingot.targets import resolve_target

    with fast_inspect():
        module = build_module()
    memory = give_memory(place_tensors(module), DIMENSIONS)
    target = resolve_target(toy_manifest().target.name)
    generate(lower_to_calls(memory.module), target, folder / "model.so")
    with WeightsWriter(folder, [TensorSpec("E", "float32", (VOCAB, VOCAB))]) as writer:
        writer.append("E", toy_weights())
    write_tokenizer(folder)
    names = ["model.so", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    files = (*describe_files(folder, names), *writer.files)
    manifest = toy_manifest(weights=tuple(writer.weights), files=files)
    step = manifest.step.model_copy(update={"workspace": memory.workspace})
    write_manifest(folder, manifest.model_copy(update={"step": step}))


if __name__ == "__main__":
    write_toy_artifact(Path(sys.argv[1]))
