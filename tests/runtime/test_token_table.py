"""A table that grows says what one made anew would say."""

from hypothesis import given
from hypothesis import strategies as st

from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.token_table import TokenTable


def rows(table: TokenTable) -> dict[int, tuple[int, int, float]]:
    columns = (table.tokens, table.output_counts, table.seen, table.bias)
    assert len({len(column) for column in columns}) == 1 and len(set(table.tokens)) == len(table)
    return {token: tuple(rest) for token, *rest in zip(*columns, strict=True)}  # type: ignore[misc]


def test_what_is_listed() -> None:
    plain = TokenTable(SamplingParams(logit_bias={9: 2.0}), [5, 6])
    plain.read([5, 6, 7])
    assert rows(plain) == {9: (0, 0, 2.0)}
    counting = TokenTable(SamplingParams(presence_penalty=1), [5, 6])
    counting.read([5, 6, 7, 7])
    assert rows(counting) == {7: (2, 1, 0.0)}
    repeating = TokenTable(SamplingParams(repetition_penalty=2, logit_bias={6: 1.0}), [5, 6])
    repeating.read([5, 6, 7])
    assert rows(repeating) == {5: (0, 1, 0.0), 6: (0, 1, 1.0), 7: (1, 1, 0.0)}


tokens = st.lists(st.integers(0, 9), max_size=12)


@given(prompt=tokens, output=tokens, proposed=tokens, cut=st.integers(0, 12))
def test_grown_and_made_anew(
    prompt: list[int], output: list[int], proposed: list[int], cut: int
) -> None:
    params = SamplingParams(repetition_penalty=1.5, logit_bias={3: 1.0})
    grown, anew = TokenTable(params, prompt), TokenTable(params, prompt)
    grown.read(prompt + output[:cut])
    before = rows(grown)
    more = grown.copy_with([*output[cut:], *proposed], [(4, -1.0)])
    assert rows(grown) == before, "a copy leaves it alone"
    grown.read(prompt + output)
    anew.read(prompt + output)
    assert rows(grown) == rows(anew)
    assert rows(more) == rows(anew.copy_with(proposed, [(4, -1.0)]))
