"""How many of how many, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """A count of successes among trials.

    Attributes
    ----------
    kept : int
    of : int
    """

    kept: int
    of: int

    def __add__(self, other: Share) -> Share:
        """Both counts together."""
        return Share(self.kept + other.kept, self.of + other.of)

    @property
    def rate(self) -> float:
        """The share that is kept; NaN of nothing."""
        return self.kept / self.of if self.of else math.nan

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's score interval of the rate.

        Unlike mean and standard error it stays within 0 and 1 and has a width where all or none is
        kept: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
        JASA 22 (1927); L. Brown, T. Cai, A. DasGupta, Statistical Science 16 (2001), equation 4.
        """
        if not self.of:
            return 0.0, 1.0
        z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
        middle = (self.kept + z2 / 2) / (self.of + z2)
        half = math.sqrt(z2 * (self.kept * (1 - self.rate) + z2 / 4)) / (self.of + z2)
        low = 0.0 if self.kept == 0 else middle - half  # exact there, but for rounding
        return low, 1.0 if self.kept == self.of else middle + half

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.rate:.3f} [{low:.3f}, {high:.3f}]"
