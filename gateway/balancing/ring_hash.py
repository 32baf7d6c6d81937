"""ring_hash: calls with the same hash go to the same endpoint, and few move when endpoints come or go (gRFC A42).

The ring holds hashes of ``hash_key + "_" + index``. An endpoint's entries depend on its own key alone, so adding or
removing another leaves them where they are. ``hash_key`` is a stable identity (gRFC A76): an instance that comes back
at another address finds its calls again.
"""

from bisect import bisect_left
from random import Random
from typing import Final

from mypy_extensions import i64

from gateway.balancing.order import in_order
from gateway.balancing.picker import Balancer, Picker
from gateway.balancing.request_hash import HashSource, request_hash, xxh64
from gateway.model import Endpoint, Request

# gRFC A42: the defaults of min_ring_size and of a client's cap.
DEFAULT_MIN_RING_SIZE: Final = 1024
DEFAULT_MAX_RING_SIZE: Final = 4096

# The most a config may ask for. A ring is rebuilt at every change of its endpoints, at under 1 us an entry, and calls
# wait meanwhile: 3 ms for the default, 50 ms for this. Envoy allows 8 388 608.
MAX_RING_SIZE: Final = 65_536


# Entries of the lightest endpoint, where the cap leaves room for them. A42 alone gives it a share of min_ring_size, so
# every endpoint's share changes whenever the number of endpoints does: of ten, one leaving moves 18 % of the keys, not
# 10 %. With a floor, shares stay put from 8 endpoints (of equal weight, with the default sizes) to 32, and only the
# keys of the one that left move. 128 entries keep the shares within some 10 % of each other.
MIN_ENTRIES: Final = 128


class Ring:
    """Entries in order of hash: a call belongs to the first entry whose hash is not below its own."""

    def __init__(self, endpoints: list[Endpoint], min_size: int, max_size: int) -> None:
        """Lay out a ring for endpoints with weights of at least 1: A42's algorithm, with MIN_ENTRIES, in integers."""
        placed: list[tuple[int, int]] = []
        ordered = sorted(endpoints, key=hash_key)
        if ordered:
            total = sum([endpoint.weight for endpoint in ordered])
            lightest = min([endpoint.weight for endpoint in ordered])
            # The lightest gets a whole number of entries, the others in proportion: `entries / per` a unit of weight.
            entries = max(-(-min_size * lightest // total), MIN_ENTRIES)
            per = lightest
            if entries * total > max_size * lightest:
                entries, per = max_size, total
            passed = 0
            for owner, endpoint in enumerate(ordered):
                passed += endpoint.weight
                index = 0
                while len(placed) * per < entries * passed:
                    placed.append((xxh64(f"{endpoint.hash_key}_{index}".encode()), owner))
                    index += 1
        placed.sort()
        self.hashes: Final[list[int]] = [entry[0] for entry in placed]
        self.owners: Final[list[Endpoint]] = [ordered[entry[1]] for entry in placed]


def hash_key(endpoint: Endpoint) -> str:
    """The stable identity of an endpoint. The ring must not depend on the order of announcement."""
    return endpoint.hash_key


class RingHashPicker(Picker):
    """The owner of the request's place on the ring, or the next available endpoint along it.

    A request without any of the parts to hash gets a random place.
    """

    def __init__(self, ring: Ring, sources: list[HashSource], rng: Random) -> None:
        self._hashes = ring.hashes
        self._owners = ring.owners
        self._sources = sources
        self._rng = rng

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        """The endpoint for this call, or None when none is available."""
        size: i64 = len(self._owners)
        if size == 0:
            return None
        place = request_hash(self._sources, request)
        if place is None:
            place = self._rng.getrandbits(64)
        at: i64 = bisect_left(self._hashes, place)
        avoided = False
        for _step in range(size):
            if at >= size:
                at = 0
            endpoint = self._owners[at]
            if endpoint.available():
                if endpoint is not avoid:
                    return endpoint
                avoided = True
            at += 1
        return avoid if avoided else None


class RingHashBalancer(Balancer):
    """Lays out a ring for each set of endpoints; needs no memory of the one before."""

    def __init__(self, sources: list[HashSource], min_ring_size: int, max_ring_size: int, rng: Random) -> None:
        self._sources = sources
        self._min_ring_size = min_ring_size
        self._max_ring_size = max_ring_size
        self._rng = rng

    def update(self, endpoints: list[Endpoint]) -> Picker:
        """A picker over exactly these endpoints."""
        ring = Ring(in_order(endpoints), self._min_ring_size, self._max_ring_size)
        return RingHashPicker(ring, self._sources, self._rng)
