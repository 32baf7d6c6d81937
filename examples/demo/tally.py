"""What the traffic has seen so far: calls per instance and kind, and every failure."""

from collections import Counter, deque

KINDS = ("unary", "client stream", "server stream", "bidi stream")

# Failures kept for the report; one is enough to fail the demo, ten show a pattern.
KEPT_FAILURES = 10


class Tally:
    """Counts of finished calls. One writer, the traffic; the display only reads."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}  # instance to the version it names in its answers
        self.counts: Counter[tuple[str, str]] = Counter()  # (instance, kind)
        self.refusals = 0  # calls that a service refused with details, as they should be
        self.repeated = 0  # calls cut off by the killed instance, and done again
        self.failed = 0
        self.failures: deque[str] = deque(maxlen=KEPT_FAILURES)

    def answered(self, kind: str, instance: str, version: str) -> None:
        """A call succeeded on an instance."""
        self.versions[instance] = version
        self.counts[instance, kind] += 1

    def fail(self, reason: str) -> None:
        """A call failed although it should not have."""
        self.failed += 1
        self.failures.append(reason)

    def of_instance(self, instance: str) -> int:
        """How many calls an instance has answered."""
        return sum(self.counts[instance, kind] for kind in KINDS)

    def of_kind(self, kind: str) -> int:
        """How many calls of a kind were answered."""
        return sum(count for (_, of), count in self.counts.items() if of == kind)

    @property
    def total(self) -> int:
        """All calls that were answered, those refused with details among them."""
        return self.counts.total() + self.refusals
