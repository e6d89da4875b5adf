"""How fast an instance decodes: learned from the tokens that stream through the gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DecodeModel:
    """One instance's TPOT = level + slope * (requests in flight - their mean when the level was learned).

    The level is an exponential moving average; the slope comes from the two nominal operating points that are known
    when the pool is set up. Without the slope a burst that was just sent looks free until its tokens stream.
    """

    alpha: float
    level_s: float
    level_in_flight: float
    slope_s: float
    learned_s: float = -1.0
    """When it was last told something."""

    def learn(self, tpot_s: float, in_flight: int, now_s: float) -> None:
        """A sample of seconds per token with so many requests in flight."""
        self.level_s += self.alpha * (tpot_s - self.level_s)
        self.level_in_flight += self.alpha * (in_flight - self.level_in_flight)
        self.learned_s = now_s

    def tpot_s(self, in_flight: int) -> float:
        """Seconds per token with ``in_flight`` requests; at least a quarter of the level."""
        tpot_s = self.level_s + self.slope_s * (in_flight - self.level_in_flight)
        floor_s = 0.25 * self.level_s
        return tpot_s if tpot_s > floor_s else floor_s
