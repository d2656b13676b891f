"""Token sequences to logits and each layer's hidden states, by eager model and by artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ingot.models.layers import find_decoder_layers
from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.step_inputs import StepInputs

Floats = NDArray[np.float32]
Tokens = list[int]

_NUDGE = 1e-6  # some times what float32 sums in another order differ by


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model computed for one sequence of `n` tokens."""

    logits: Floats
    """`[n, vocab]`"""
    hidden: list[Floats]
    """After each layer, `[n, width]`."""
    embedded: Floats | None = None
    """Before the first layer; compiled models don't tell."""

    def first(self, n: int) -> Trace:
        """The trace of the first `n` tokens."""
        embedded = None if self.embedded is None else self.embedded[:n]
        return Trace(self.logits[:n], [states[:n] for states in self.hidden], embedded)


class EagerModel:
    """The plain `transformers` model, computing in float32."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers = find_decoder_layers(model, model.config.num_hidden_layers)

    @torch.no_grad()
    def trace(
        self,
        sequences: Sequence[Tokens],
        *,
        given: Sequence[Trace] | None = None,
        num_nudged: int = 0,
        cache: Any = None,
    ) -> list[Trace]:
        """Run all sequences in one pass. They are padded at their ends, which no token before sees.

        With `given`, each layer and the head get the hidden states of those traces and not the ones
        that eager has computed: what they do to them is seen by itself. What the layers get of the
        last `num_nudged` sequences is changed in its last bits.
        """
        embedded: list[Tensor] = []
        hidden: list[Tensor] = []

        def before(_module: Any, args: Any, options: Any) -> Any:
            first = args[0] if args else options["hidden_states"]
            embedded.append(first.float())
            nudged = _nudge(first, num_nudged)
            if args:
                return (nudged, *args[1:]), options
            return args, {**options, "hidden_states": nudged}

        def after(_module: Any, _args: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            hidden.append(first.float())
            if given is None:
                return None
            states = _pad([trace.hidden[len(hidden) - 1] for trace in given])
            states = _nudge(states, num_nudged)
            return (states, *output[1:]) if isinstance(output, tuple) else states

        handles = [layer.register_forward_hook(after) for layer in self._layers]
        first_layer = self._layers[0]
        handles.append(first_layer.register_forward_pre_hook(before, with_kwargs=True))
        try:
            ids = _pad([np.array(tokens, np.int64) for tokens in sequences])
            options = {"past_key_values": cache, "use_cache": cache is not None}
            logits = self._model(input_ids=ids, **options).logits.float()
        finally:
            for handle in handles:
                handle.remove()
        return [
            Trace(
                logits[i, : len(tokens)].numpy(),
                [states[i, : len(tokens)].numpy() for states in hidden],
                embedded[0][i, : len(tokens)].numpy(),
            )
            for i, tokens in enumerate(sequences)
        ]


def _nudge(states: Tensor, num_nudged: int) -> Tensor:
    """The states with those of the last sequences up or down by a few units in the last place."""
    if not num_nudged:
        return states
    signs = torch.randint(2, states[-num_nudged:].shape, generator=torch.Generator().manual_seed(0))
    nudged = states.clone()
    nudged[-num_nudged:] *= 1 + _NUDGE * (2 * signs - 1)
    return nudged


def _pad(rows: Sequence[NDArray[Any]]) -> Tensor:
    """Arrays of several lengths to one, zeros after the end of each."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)


class CompiledModel:
    """An artifact driven step by step; every sequence gets pages of its own."""

    def __init__(self, artifact: Artifact, num_sequences: int, max_tokens: int) -> None:
        self._page_size = artifact.manifest.page_size_tokens
        self._pages_each = -(-max_tokens // self._page_size)
        self._num_cached = [0] * num_sequences
        self._executor = CompiledExecutor(artifact, num_pages=num_sequences * self._pages_each)

    def reset(self) -> None:
        """Forget every sequence; what is in the pages is written over."""
        self._num_cached = [0] * len(self._num_cached)

    def step(self, chunks: dict[int, Tokens]) -> dict[int, Trace]:
        """Append tokens to sequences, all in one step; gives the trace of the new tokens."""
        inputs = self._inputs(chunks)
        logits, *hidden = self._executor.trace(inputs)
        traces, first = {}, 0
        for sequence, tokens in chunks.items():
            rows = slice(first, first + len(tokens))
            traces[sequence] = Trace(logits[rows].copy(), [h[rows].copy() for h in hidden])
            self._num_cached[sequence] += len(tokens)
            first += len(tokens)
        return traces

    def _inputs(self, chunks: dict[int, Tokens]) -> StepInputs:
        positions, slots, tables, lengths = [], [], [], []
        for sequence, tokens in chunks.items():
            start, base = self._num_cached[sequence], sequence * self._pages_each
            where = np.arange(start, start + len(tokens))
            positions.append(where)
            slots.append(base * self._page_size + where)  # a sequence's pages lie side by side
            tables.append(np.arange(base, base + self._pages_each))
            lengths.append(start + len(tokens))
        counts = [len(tokens) for tokens in chunks.values()]
        return StepInputs(
            token_ids=np.concatenate([np.array(t, np.int32) for t in chunks.values()]),
            positions=np.concatenate(positions).astype(np.int32),
            slots=np.concatenate(slots).astype(np.int32),
            page_table=np.stack(tables).astype(np.int32),
            query_offsets=np.cumsum([0, *counts]).astype(np.int32),
            context_lengths=np.array(lengths, np.int32),
            logit_rows=np.arange(sum(counts), dtype=np.int32),
        )


def trace_prefill(model: CompiledModel, sequences: Sequence[Tokens]) -> list[Trace]:
    """All sequences whole, packed into one step."""
    model.reset()
    traces = model.step(dict(enumerate(sequences)))
    return [traces[i] for i in range(len(sequences))]


def trace_decode(model: CompiledModel, sequences: Sequence[Tokens]) -> list[Trace]:
    """One token of each sequence a step, until the longest ends."""
    model.reset()
    parts: list[list[Trace]] = [[] for _ in sequences]
    for i in range(max(map(len, sequences))):
        chunk = {s: [tokens[i]] for s, tokens in enumerate(sequences) if i < len(tokens)}
        for sequence, trace in model.step(chunk).items():
            parts[sequence].append(trace)
    return [_join(part) for part in parts]


def _join(parts: list[Trace]) -> Trace:
    layers = zip(*(part.hidden for part in parts), strict=True)
    return Trace(
        np.concatenate([part.logits for part in parts]), [np.concatenate(h) for h in layers]
    )


def generate(model: CompiledModel, prompt: Tokens, num_tokens: int) -> Tokens:
    """Greedy continuation: one prefill, then one token a step."""
    model.reset()
    generated: Tokens = []
    tokens = prompt
    for _ in range(num_tokens):
        logits = model.step({0: tokens})[0].logits[-1]
        generated.append(int(logits.argmax()))
        tokens = generated[-1:]
    return generated
