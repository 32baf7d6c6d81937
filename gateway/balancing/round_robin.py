"""round_robin: each endpoint in its turn; weights are ignored, but for 0."""

from random import Random

from mypy_extensions import i64

from gateway.balancing.order import has, in_order, order_key
from gateway.balancing.picker import Balancer, Picker
from gateway.model import Endpoint, Request


class RoundRobinPicker(Picker):
    """A fixed cycle of endpoints, and whose turn it is.

    The turn of an endpoint that cannot take the call is given away in a second cycle of its own: if its successor in
    the main cycle took it, one failed endpoint would double the load of another.
    """

    def __init__(self, endpoints: list[Endpoint], start: int) -> None:
        self._endpoints = endpoints
        self._count: i64 = len(endpoints)
        self._next: i64 = start
        self._spare: i64 = start

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        """The endpoint for this call, or None when none is available."""
        if self._count == 0:
            return None
        turn = self._next
        after = turn + 1
        self._next = 0 if after == self._count else after
        endpoint = self._endpoints[turn]
        if endpoint is not avoid and endpoint.available():
            return endpoint
        return self._give_away(avoid)

    def last(self) -> Endpoint | None:
        """The endpoint before the one whose turn it is; None of an empty cycle."""
        return self._endpoints[self._next - 1] if self._count > 0 else None

    def _give_away(self, avoid: Endpoint | None) -> Endpoint | None:
        """The next available endpoint of the second cycle."""
        at = self._spare
        for _step in range(self._count):
            endpoint = self._endpoints[at]
            at += 1
            if at == self._count:
                at = 0
            if endpoint is not avoid and endpoint.available():
                self._spare = at
                return endpoint
        if avoid is not None and avoid.available() and has(self._endpoints, avoid):
            return avoid
        return None


class RoundRobinBalancer(Balancer):
    """Starts at a random endpoint, so that many gateways do not load the first one together, and goes on from there."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._picker: RoundRobinPicker | None = None

    def update(self, endpoints: list[Endpoint]) -> Picker:
        """A picker over exactly these endpoints, that goes on after the endpoint picked last."""
        ordered = in_order(endpoints)
        self._picker = RoundRobinPicker(ordered, self._start(ordered))
        return self._picker

    def _start(self, ordered: list[Endpoint]) -> int:
        if not ordered:
            return 0
        before = self._picker
        last = before.last() if before is not None else None
        if last is None:
            return self._rng.randrange(len(ordered))
        key = order_key(last)
        for index, endpoint in enumerate(ordered):
            if order_key(endpoint) > key:
                return index
        return 0
