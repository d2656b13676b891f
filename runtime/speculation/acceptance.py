"""Turns accepted and refused guesses into the probability that the next one is accepted."""

from __future__ import annotations

from dataclasses import dataclass

PRIOR = 0.6  # of a sequence that nothing is known of: worth a try
PRIOR_WEIGHT = 3.0  # guesses
IDLE_FADE = 0.99  # of what is known, at each step without guesses


@dataclass(slots=True)
class Acceptance:
    """A fading average. What is not tried is forgotten, so that it is tried again. `step` counts
    the engine's steps."""

    fade: float  # of the past, at each record
    num_tried: float = 0.0
    num_accepted: float = 0.0
    last_step: int = 0

    def record(self, num_proposed: int, num_accepted: int, step: int) -> None:
        """A step's outcome. Guesses after the first refused one were not tried."""
        fade = self.fade * IDLE_FADE ** max(0, step - self.last_step - 1)
        self.num_tried = self.num_tried * fade + min(num_proposed, num_accepted + 1)
        self.num_accepted = self.num_accepted * fade + num_accepted
        self.last_step = step

    def rate(self, prior: float, step: int) -> float:
        """Between `prior` and what was seen, by how much was seen and how long ago."""
        fade = IDLE_FADE ** max(0, step - self.last_step - 1)
        tried, accepted = self.num_tried * fade, self.num_accepted * fade
        return (accepted + PRIOR_WEIGHT * prior) / (tried + PRIOR_WEIGHT)
