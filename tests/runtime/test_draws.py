"""Numbers are even, differ by seed, output and place, and never change between releases."""

import numpy as np
import pytest

from ingot.runtime.draws import draw, draw_key


def test_a_seed_is_a_promise() -> None:
    assert [draw(draw_key(7, 0), place) for place in range(3)] == pytest.approx(
        [0.950161337852478, 0.8796869516372681, 0.9011083245277405], abs=1e-9
    )


def test_keys_differ_by_seed_and_output() -> None:
    keys = {draw_key(seed, output) for seed in range(50) for output in range(50)}
    assert len(keys) == 2500
    assert len({draw_key(None, 0) for _ in range(50)}) == 50


@pytest.mark.parametrize("axis", ["seed", "output", "place"])
def test_numbers_are_even_along_every_axis(axis: str) -> None:
    count = 4000
    numbers = np.array(
        [
            draw(
                draw_key(i if axis == "seed" else 3, i if axis == "output" else 0),
                i if axis == "place" else 5,
            )
            for i in range(count)
        ]
    )
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert (numbers.astype(np.float32) < 1).all()
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    # 19 degrees of freedom: above 50 one time in ten thousand, and the numbers are fixed
    assert ((counts - count / 20) ** 2 / (count / 20)).sum() < 50
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.06
