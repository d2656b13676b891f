"""Hidden states of a prompt's chunks become one vector, however the prompt was cut."""

import numpy as np
import pytest

from ingot.errors import RequestError
from ingot.runtime.outputs import Chunk
from ingot.runtime.pooling import Pooling, finish_embedding, take_embedding
from ingot.runtime.request_options import PoolingKind

HIDDEN = np.random.default_rng(0).standard_normal((11, 6)).astype(np.float32)


def pool(kind: PoolingKind, *cuts: int) -> np.ndarray:
    pooling = Pooling(kind, len(HIDDEN))
    for start, end in zip((0, *cuts), (*cuts, len(HIDDEN)), strict=True):
        wanted = pooling.rows(start, end - start)
        if wanted:
            pooling.add(HIDDEN[start + wanted.start : start + wanted.stop])
    return pooling.result()


@pytest.mark.parametrize("cuts", [(), (1,), (4, 10), tuple(range(1, 11))])
def test_cuts_do_not_show(cuts: tuple[int, ...]) -> None:
    expected = HIDDEN.astype(np.float64).mean(0).astype(np.float32)
    np.testing.assert_array_equal(pool("mean", *cuts), expected)
    np.testing.assert_array_equal(pool("last", *cuts), HIDDEN[-1])


def test_rows_that_are_wanted() -> None:
    assert Pooling("last", 5).rows(0, 4) == range(4, 4)
    assert Pooling("last", 5).rows(4, 1) == range(1)
    assert Pooling("mean", 5).rows(0, 4) == range(4)


def test_what_is_computed_again_counts_once() -> None:
    """A prompt whose pages were taken begins anew, in other chunks."""
    pooling = Pooling("mean", 11)
    pooling.add(HIDDEN[:4])
    assert pooling.needs_all_rows
    assert not pooling.rows(0, 3)
    assert pooling.rows(3, 8) == range(1, 8)
    pooling.add(HIDDEN[4:])
    assert not pooling.needs_all_rows
    np.testing.assert_array_equal(pooling.result(), pool("mean"))


def test_the_last_token_needs_no_others() -> None:
    assert not Pooling("last", 5).needs_all_rows


def test_length_and_dimensions() -> None:
    vector = np.array([3, 4, 12], np.float32)
    plain = finish_embedding(vector, normalize=False)
    assert plain.tolist() == [3, 4, 12]
    np.testing.assert_allclose(finish_embedding(vector, normalize=True), vector / 13, rtol=1e-6)
    np.testing.assert_allclose(
        finish_embedding(vector, normalize=True, dimensions=2), [0.6, 0.8], rtol=1e-6
    )
    zeros = finish_embedding(np.zeros(3, np.float32), normalize=True)
    assert zeros.tolist() == [0, 0, 0] and zeros.dtype == np.float32
    for dimensions in (0, 4):
        with pytest.raises(RequestError, match=f"dimensions is {dimensions}.*embeddings have 3"):
            finish_embedding(vector, normalize=True, dimensions=dimensions)


def test_an_end_without_a_vector_is_an_error() -> None:
    with pytest.raises(RequestError, match="the reason is timeout"):
        take_embedding([Chunk(0, "", (), (), "timeout")])
