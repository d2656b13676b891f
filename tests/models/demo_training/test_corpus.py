"""Documents to pieces and chats: nothing is lost, and what is held out stays so."""

import numpy as np
import pytest

from ingot.models.demo_training.corpus import Document, cut, is_held_out, read_chats

SOURCE = '''\
class Stack:
    def push(self, item):
        """Put an item on top of the stack."""
        self.items.append(item)

    def pop(self):
        return self.items.pop()
'''


@pytest.mark.parametrize("text", [SOURCE, "x", "a b c d " * 400])
def test_pieces_join_to_the_text(text: str) -> None:
    pieces = cut(text, np.random.default_rng(0))
    assert "".join(pieces) == text


def test_cuts_fall_after_spaces_and_inside_words() -> None:
    text = "return value\n" * 500
    ends = [piece[-1] for piece in cut(text, np.random.default_rng(1))[:-1]]
    assert " " in ends and any(end.isalpha() for end in ends)


def test_chats_are_functions_with_docstrings() -> None:
    chats = read_chats([Document("stack.py", SOURCE, False)])
    assert chats == [
        "<|im_start|>user\nPut an item on top of the stack.<|im_end|>\n<|im_start|>assistant\n"
        'def push(self, item):\n    """Put an item on top of the stack."""\n'
        "    self.items.append(item)<|im_end|>\n"
    ]


def test_held_out_files_are_always_the_same() -> None:
    held_out = [i for i in range(1000) if is_held_out(f"module_{i}.py")]
    assert held_out[:3] == [60, 63, 73]
    assert 15 <= len(held_out) <= 45
