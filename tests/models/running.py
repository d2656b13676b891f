"""Running a prepared model in torch: packed sequences, prefill and one-token decode."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ingot.models.capture import CapturedForward
from ingot.models.ops import Batch


@dataclass
class Runner:
    """Feeds token ids of several sequences to a captured model, which remembers them."""

    forward: CapturedForward
    batch: Batch = field(default_factory=Batch)
    lengths: dict[Hashable, int] = field(default_factory=dict)

    def step(self, pieces: Sequence[tuple[Hashable, Tensor]]) -> list[Tensor]:
        """New tokens [n] of some sequences -> their logits [n, vocabulary]."""
        positions, segments = [], []
        for name, ids in pieces:
            start = self.lengths.get(name, 0)
            positions.append(torch.arange(start, start + len(ids)))
            segments.append((name, len(ids)))
            self.lengths[name] = start + len(ids)
        ids = torch.cat([ids for _, ids in pieces])
        with torch.no_grad(), self.batch.step(segments):
            logits = self.forward(ids[None], torch.cat(positions)[None], torch.arange(len(ids)))[0]
        return list(logits.split([len(ids) for _, ids in pieces]))


def plain_logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """Logits [n, vocabulary] of the plain transformers model for one sequence."""
    with torch.no_grad():
        logits: Tensor = model(ids[None], use_cache=False).logits[0]
    return logits


def relative_error(got: Tensor, want: Tensor) -> float:
    """Largest difference in units of the largest expected value."""
    return float((got - want).abs().max() / want.abs().max())
