"""Turns accepted and refused guesses into the probability that the next one is accepted."""

from __future__ import annotations

from dataclasses import dataclass

PRIOR = 0.6  # of a sequence that nothing is known of: worth a try
PRIOR_WEIGHT = 3.0  # guesses


@dataclass(slots=True)
class Acceptance:
    """A fading average. What is not tried is forgotten, so that it is tried again."""

    fade: float  # of the past, at each record
    num_tried: float = 0.0
    num_accepted: float = 0.0

    def record(self, num_proposed: int, num_accepted: int) -> None:
        """A step's outcome. Guesses after the first refused one were not tried."""
        self.fade_by(self.fade)
        self.num_tried += min(num_proposed, num_accepted + 1)
        self.num_accepted += num_accepted

    def fade_by(self, share: float) -> None:
        self.num_tried *= share
        self.num_accepted *= share

    def rate(self, prior: float = PRIOR) -> float:
        """Between `prior` and what was seen, by how much was seen."""
        return (self.num_accepted + PRIOR_WEIGHT * prior) / (self.num_tried + PRIOR_WEIGHT)
