"""Text comes out as it becomes final: whole characters, and no start of a stop string."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.runtime.text_stream import TextStream


def decode_bytes(tokens: list[int]) -> str:
    """A tokenizer with one token for each byte, as byte-level BPE falls back to."""
    return bytes(tokens).decode("utf-8", errors="replace")


def decode_words(tokens: list[int]) -> str:
    """Like SentencePiece: the space before the first word is dropped."""
    return " ".join("abcdefgh"[token] for token in tokens)


def run(stream: TextStream, tokens: list[int]) -> list[str]:
    deltas = []
    for token in tokens:
        deltas.append(stream.push(token))
        if stream.found_stop:
            break
    return [*deltas, stream.finish()]


def test_characters_come_whole() -> None:
    assert run(TextStream(decode_bytes), list("aé☃😀".encode())) == (
        ["a", "", "é", "", "", "☃", "", "", "", "😀", ""]
    )


def test_what_never_becomes_a_character_comes_at_the_end() -> None:
    assert run(TextStream(decode_bytes), list(b"a\xe2\x98")) == [
        "a",
        "",
        "",
        "\N{REPLACEMENT CHARACTER}",
    ]


def test_wrong_bytes_are_not_held_for_ever() -> None:
    deltas = run(TextStream(decode_bytes), [0x80] * 20)
    assert max(len(list(g)) for empty, g in itertools.groupby(deltas, bool) if not empty) < 6
    assert len("".join(deltas)) == 20


def test_tokens_that_end_one_character_and_begin_the_next() -> None:
    """However many follow each other, as merges of bytes in Chinese may do."""
    text = "雪人" * 10
    encoded = text.encode()
    pieces = [encoded[:2], *(encoded[i : i + 3] for i in range(2, len(encoded), 3))]

    def decode(tokens: list[int]) -> str:
        return b"".join(pieces[token] for token in tokens).decode("utf-8", errors="replace")

    deltas = run(TextStream(decode), list(range(len(pieces))))
    assert deltas == ["", *text, ""]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_no_half_character_however_bytes_are_merged(text: str, sizes: list[int]) -> None:
    encoded, pieces = text.encode(), []
    while encoded:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(encoded[:size])
        encoded = encoded[size:]

    def decode(tokens: list[int]) -> str:
        return b"".join(pieces[token] for token in tokens).decode("utf-8", errors="replace")

    deltas = run(TextStream(decode), list(range(len(pieces))))
    assert "".join(deltas) == text


def test_the_prompt_keeps_the_space_before_the_first_word() -> None:
    assert run(TextStream(decode_words, prompt=[0, 1]), [2, 3]) == [" c", " d", ""]
    assert run(TextStream(decode_words), [2, 3]) == ["c", " d", ""]


def test_a_special_token_leaves_no_trace() -> None:
    def decode(tokens: list[int]) -> str:
        return decode_words([token for token in tokens if token < 8])

    assert run(TextStream(decode), [8, 0, 8, 8, 1]) == ["", "a", "", "", " b", ""]


def test_half_a_character_in_the_prompt() -> None:
    snowman = list("☃".encode())
    assert "".join(run(TextStream(decode_bytes, prompt=snowman[:2]), [snowman[2], 97])).endswith(
        "a"
    )


@pytest.mark.parametrize("text", ["one END two", "one ENEND two", "one EN END"])
def test_stop_string(text: str) -> None:
    stream = TextStream(decode_bytes, stop_strings=["END"])
    deltas = run(stream, list(text.encode()))
    assert stream.found_stop
    assert "".join(deltas) == text[: text.index("END")]
    assert all("E" not in delta or "EN" in text[:8] for delta in deltas)


def test_the_start_of_a_stop_string_is_held_back_and_then_given() -> None:
    deltas = run(TextStream(decode_bytes, stop_strings=["abcd", "bX"]), list(b"zabce"))
    assert deltas == ["z", "", "", "", "abce", ""]


def test_unfinished_stop_string_is_text_at_the_end() -> None:
    stream = TextStream(decode_bytes, stop_strings=["END"])
    assert "".join(run(stream, list(b"the EN"))) == "the EN"
    assert not stream.found_stop


def test_earliest_of_several_stops() -> None:
    stream = TextStream(lambda tokens: "".join("xyz ab"[t : t + 3] for t in tokens), (), ["b", "z"])
    assert "".join(run(stream, [0, 3])) == "xy"


def test_stop_inside_one_token() -> None:
    stream = TextStream(
        lambda tokens: "".join(("hello\n\nworld", "!")[t] for t in tokens), (), ["\n\n"]
    )
    assert run(stream, [0, 1]) == ["hello", ""]


def test_stops_do_not_count_while_it_can_not_stop() -> None:
    stream = TextStream(decode_bytes, stop_strings=["ab"])
    assert [stream.push(token, can_stop=False) for token in b"ab"] == ["a", "b"]
    assert not stream.found_stop
    assert run(stream, list(b"cab")) == ["c", "", "", ""]
    assert stream.found_stop and stream.text == "abc"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_any_text(text: str, stops: list[str]) -> None:
    stream = TextStream(decode_bytes, stop_strings=stops)
    joined = ""
    for token in text.encode():
        joined += stream.push(token)
        assert text.startswith(joined), "what was emitted was not final"
        if stream.found_stop:
            break
    joined += stream.finish()
    # The end that is reached first, reading forwards, decides.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert joined == text
    else:
        assert any(text[: min(ends)] == joined + stop for stop in stops)
        assert stream.found_stop
