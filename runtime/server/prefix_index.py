"""Turns where earlier prompts went into where the next one finds most of itself in a cache.

An index of blocks of tokens: the hash of a block covers all tokens before it, so equal hashes mean
equal beginnings. It guesses, by what was sent where, what each replica's own prefix cache holds.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence

BLOCK_TOKENS = 64
MAX_BLOCKS = 100_000  # some 10 MB; the oldest are forgotten
MAX_LEAD = 8  # requests: a replica with so many more than another is passed over


class PrefixIndex:
    """Which replicas were sent which beginnings."""

    def __init__(self, block_tokens: int = BLOCK_TOKENS, max_blocks: int = MAX_BLOCKS) -> None:
        self.block_tokens = block_tokens
        self.max_blocks = max_blocks
        self._replicas: OrderedDict[bytes, set[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._replicas)

    def record(self, tokens: Sequence[int], salt: str, replica: str) -> None:
        """`replica` was sent this prompt."""
        for block in self._hash_blocks(tokens, salt):
            self._replicas.setdefault(block, set()).add(replica)
            self._replicas.move_to_end(block)
        while len(self._replicas) > self.max_blocks:
            self._replicas.popitem(last=False)

    def count_known(
        self, tokens: Sequence[int], salt: str, replicas: Collection[str]
    ) -> dict[str, int]:
        """How many blocks from the prompt's beginning each of `replicas` was sent before."""
        known = dict.fromkeys(replicas, 0)
        rest = set(replicas)
        for number, block in enumerate(self._hash_blocks(tokens, salt), start=1):
            rest &= self._replicas.get(block, set())
            if not rest:
                break
            for replica in rest:
                known[replica] = number
        return known

    def forget_all_but(self, replicas: Collection[str]) -> None:
        """Replicas that are gone have no cache."""
        alive = set(replicas)
        for block in list(self._replicas):
            self._replicas[block] &= alive
            if not self._replicas[block]:
                del self._replicas[block]

    def _hash_blocks(self, tokens: Sequence[int], salt: str) -> Iterator[bytes]:
        digest = hashlib.blake2b(salt.encode(), digest_size=16)
        for start in range(0, len(tokens) - self.block_tokens + 1, self.block_tokens):
            digest.update(array("q", tokens[start : start + self.block_tokens]).tobytes())
            yield digest.digest()


def rank_replicas(
    known: Mapping[str, int], busy: Mapping[str, int], last: Mapping[str, int]
) -> list[str]:
    """The best first: most of the prompt known, then least to do, then not asked for the longest.

    A replica that has MAX_LEAD requests more than the least busy one comes last all the same: past
    that, waiting costs more than computing a prompt anew. `busy` counts requests of each replica,
    as far as that is known: of many that come at once, none is counted yet. `last` numbers the
    times when each was chosen.
    """
    least = min(busy.values())
    return sorted(
        busy,
        key=lambda replica: (
            busy[replica] - least >= MAX_LEAD,
            -known.get(replica, 0),
            busy[replica],
            last.get(replica, 0),
        ),
    )
