"""Graphs in which tokens meet are refused, with the line; ordinary ones pass."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import UnsupportedModelError
from ingot.models.export import strip
from ingot.models.token_mixing import check_tokens_stay_apart


class Mixer(nn.Module):
    """A function of hidden states x [1, n, 8] and positions [1, n]."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return self.function(x, positions)


def check(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    tokens = torch.export.Dim("tokens", min=2, max=64)
    program = torch.export.export(
        Mixer(function),
        (torch.randn(1, 7, 8), torch.arange(7)[None]),
        dynamic_shapes={"x": {1: tokens}, "positions": {1: tokens}},
        strict=False,
    )
    check_tokens_stay_apart(strip(program.run_decompositions()).graph)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, positions: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
        lambda x, positions: x @ torch.ones(8, 8) + positions[..., None],
        lambda x, positions: x.view(1, -1, 2, 4).transpose(1, 2).softmax(-1),
        lambda x, positions: torch.cat([-x[..., 4:], x[..., :4]], -1),
        lambda x, positions: torch.arange(10)[positions] + x[..., 0],
    ],
    ids=["norm", "linear", "heads", "rotate", "table"],
)
def test_tokens_apart(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    check(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, positions: x.cumsum(1),
        lambda x, positions: x.mean(1, keepdim=True) + x,
        lambda x, positions: (x @ x.transpose(1, 2)).softmax(-1) @ x,
        lambda x, positions: nn.functional.pad(x, (0, 0, 1, 0))[:, :-1] + x,
        lambda x, positions: torch.flip(x, [1]),
        lambda x, positions: x - x[:, :1],
        lambda x, positions: nn.functional.conv1d(
            x.transpose(1, 2), torch.ones(8, 8, 3), padding=1
        ),
        lambda x, positions: x + torch.arange(x.shape[1])[None, :, None],
    ],
    ids=["cumsum", "mean", "attention", "shift", "flip", "first", "convolution", "row numbers"],
)
def test_tokens_meet(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedModelError, match="tokens are combined|positions counted"):
        check(function)
