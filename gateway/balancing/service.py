"""How a service wants its calls balanced, and the balancer that does it."""

from random import Random
from typing import Final

from gateway.balancing.pick_first import PickFirstBalancer
from gateway.balancing.picker import Balancer
from gateway.balancing.request_hash import HashSource
from gateway.balancing.ring_hash import DEFAULT_MAX_RING_SIZE, DEFAULT_MIN_RING_SIZE, RingHashBalancer
from gateway.balancing.round_robin import RoundRobinBalancer

PICK_FIRST: Final = "pick_first"
ROUND_ROBIN: Final = "round_robin"
RING_HASH: Final = "ring_hash"

POLICIES: Final = [PICK_FIRST, ROUND_ROBIN, RING_HASH]


class PolicySpec:
    """A balancing policy with its options; ring sizes and sources matter to ring_hash alone.

    ``identity`` says it all in words: equal texts, equal policies. Raises ValueError for an unknown policy.
    """

    def __init__(
        self,
        policy: str = ROUND_ROBIN,
        hash_on: list[HashSource] | None = None,
        min_ring_size: int = DEFAULT_MIN_RING_SIZE,
        max_ring_size: int = DEFAULT_MAX_RING_SIZE,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"{policy!r} is not a balancing policy: use one of {', '.join(POLICIES)}")
        self.policy: Final = policy
        self.hash_on: Final[list[HashSource]] = [] if hash_on is None else hash_on
        self.min_ring_size: Final = min_ring_size
        self.max_ring_size: Final = max_ring_size
        self.identity: Final = self._describe()

    def _describe(self) -> str:
        if self.policy != RING_HASH:
            return self.policy
        words = [source.word + (" terminal" if source.terminal else "") for source in self.hash_on]
        return f"{RING_HASH} of {self.min_ring_size} to {self.max_ring_size} on [{', '.join(words)}]"


def make_balancer(spec: PolicySpec, rng: Random) -> Balancer:
    """A new balancer of the policy."""
    if spec.policy == PICK_FIRST:
        return PickFirstBalancer()
    if spec.policy == RING_HASH:
        return RingHashBalancer(spec.hash_on, spec.min_ring_size, spec.max_ring_size, rng)
    return RoundRobinBalancer(rng)
