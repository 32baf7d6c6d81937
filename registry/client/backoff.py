"""How long to wait before the next try: exponential growth with full jitter, so that a crowd spreads out."""

from random import Random
from typing import Final

BASE: Final = 0.1  # seconds: the mean first wait is half of it, quick enough that a registry's restart goes unnoticed
FACTOR: Final = 2.0


class Backoff:
    """Waits of ``uniform(0, min(cap, BASE * FACTOR^n))`` seconds; ``cap`` is in seconds and may be changed at will."""

    def __init__(self, rng: Random, cap: float, base: float = BASE) -> None:
        self.cap = cap
        self._rng = rng
        self._base = base
        self._ceiling = base

    def next(self) -> float:
        """The wait before the next try, in seconds."""
        delay = self._rng.uniform(0.0, min(self.cap, self._ceiling))
        self._ceiling = min(self.cap, self._ceiling * FACTOR)
        return delay

    def reset(self) -> None:
        """The last try worked: start small again."""
        self._ceiling = self._base
