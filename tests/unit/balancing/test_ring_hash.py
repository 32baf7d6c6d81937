"""The ring of gRFC A42: its exact layout on small examples, and the walk along it."""

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
import xxhash

from gateway.balancing.request_hash import MetadataSource
from gateway.balancing.ring_hash import MIN_ENTRIES, Ring, RingHashBalancer
from gateway.model import TRANSIENT_FAILURE, Endpoint, Field, Request


def endpoint(name: str, weight: int = 1, hash_key: str = "") -> Endpoint:
    return Endpoint("s", name, "127.0.0.1:1", {}, weight, hash_key=hash_key)


def request_of(user: str | None) -> Request:
    return Request(b"/p.S/M", b"host", [] if user is None else [Field(b"x-user", user.encode())], "")


def xxh64(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode())


def a42_ring(weights: dict[str, int], min_size: int, max_size: int) -> list[tuple[int, str]]:
    """The algorithm of A42 in exact arithmetic, with a floor for the lightest endpoint's entries."""
    total = sum(weights.values())
    lightest = Fraction(min(weights.values()), total)
    scale = min(max(math.ceil(lightest * min_size), MIN_ENTRIES) / lightest, Fraction(max_size))
    ring: list[tuple[int, str]] = []
    target = Fraction(0)
    for name in sorted(weights):
        target += scale * Fraction(weights[name], total)
        index = 0
        while len(ring) < target:
            ring.append((xxh64(f"{name}_{index}"), name))
            index += 1
    assert len(ring) == math.ceil(scale)
    return sorted(ring)


@pytest.mark.parametrize(
    ("weights", "min_size", "max_size", "counts"),
    [
        # A42's own share of the minimum, from here...
        ({"a": 1, "b": 3}, 1024, 4096, {"a": 256, "b": 768}),
        ({"a": 1, "b": 2}, 1024, 4096, {"a": 342, "b": 684}),  # the lightest gets a whole number
        ({"a": 5}, 1024, 4096, {"a": 1024}),
        ({"a": 1, "b": 1, "c": 1, "d": 5}, 1024, 4096, {"a": 128, "b": 128, "c": 128, "d": 640}),
        # ... the cap, which wins ...
        ({"a": 1, "b": 3}, 8, 4, {"a": 1, "b": 3}),
        ({"a": 1, "b": 3}, 8, 8, {"a": 2, "b": 6}),
        ({"a": 1, "b": 1, "c": 1}, 1, 4, {"a": 2, "b": 1, "c": 1}),
        ({"a": 1, "b": 99}, 1024, 4096, {"a": 41, "b": 4055}),
        # ... and the floor.
        ({"a": 1, "b": 1}, 8, 4096, {"a": MIN_ENTRIES, "b": MIN_ENTRIES}),
        ({f"i{index}": 1 for index in range(10)}, 1024, 4096, {f"i{index}": MIN_ENTRIES for index in range(10)}),
        ({f"i{index}": 1 for index in range(64)}, 1024, 4096, {f"i{index}": 64 for index in range(64)}),
    ],
)
def test_layout(weights: dict[str, int], min_size: int, max_size: int, counts: dict[str, int]) -> None:
    endpoints = [endpoint(name, weight) for name, weight in reversed(weights.items())]
    ring = Ring(endpoints, min_size, max_size)
    entries = list(zip(ring.hashes, [owner.instance_id for owner in ring.owners], strict=True))
    assert entries == a42_ring(weights, min_size, max_size)
    assert Counter(name for _, name in entries) == counts


def test_an_empty_ring() -> None:
    assert Ring([], 1024, 4096).hashes == []


@pytest.fixture
def balancer() -> RingHashBalancer:
    return RingHashBalancer([MetadataSource("x-user")], 64, 4096, random.Random(3))


def test_pick_is_the_first_entry_at_or_after_the_hash(balancer: RingHashBalancer) -> None:
    endpoints = [endpoint(name) for name in "abcde"]
    picker = balancer.update(endpoints)
    ring = a42_ring(dict.fromkeys("abcde", 1), 64, 4096)
    for user in [f"u{index}" for index in range(300)]:
        place = xxh64(user)
        expected = next((name for value, name in ring if value >= place), ring[0][1])
        picked = picker.pick(request_of(user), None)
        assert picked is not None
        assert picked.instance_id == expected


def test_an_entry_owns_its_own_hash() -> None:
    # The key of the ring's entry itself, sent as metadata, hashes to that very entry.
    picker = RingHashBalancer([MetadataSource("x-user")], 4, 4, random.Random(0)).update([endpoint("a"), endpoint("b")])
    for name in "ab":
        picked = picker.pick(request_of(f"{name}_0"), None)
        assert picked is not None
        assert picked.instance_id == name


def walk(weights: dict[str, int], user: str) -> list[str]:
    """The unique owners along the ring from a user's place."""
    ring = a42_ring(weights, 64, 4096)
    place = xxh64(user)
    at = next((index for index, entry in enumerate(ring) if entry[0] >= place), 0)
    return list(dict.fromkeys(name for _, name in ring[at:] + ring[:at]))


def test_unavailable_and_avoided_endpoints_are_walked_over(balancer: RingHashBalancer) -> None:
    endpoints = {name: endpoint(name) for name in "abcde"}
    picker = balancer.update(list(endpoints.values()))
    for user in ["u1", "u2", "u3", "u4"]:
        first, second, third, *rest = [endpoints[name] for name in walk(dict.fromkeys("abcde", 1), user)]
        request = request_of(user)
        assert picker.pick(request, None) is first
        assert picker.pick(request, first) is second
        first.state = TRANSIENT_FAILURE
        assert picker.pick(request, None) is second
        assert picker.pick(request, second) is third
        for one in [third, *rest]:
            one.state = TRANSIENT_FAILURE
        assert picker.pick(request, second) is second  # there is no other
        for one in endpoints.values():
            one.state = 0


def test_a_request_without_the_metadata_goes_anywhere(balancer: RingHashBalancer) -> None:
    picker = balancer.update([endpoint(name) for name in "abcde"])
    counts = Counter(getattr(picker.pick(request_of(None), None), "instance_id", "") for _ in range(500))
    assert set(counts) == set("abcde")


def test_the_hash_key_and_not_the_address_or_order_decides(balancer: RingHashBalancer) -> None:
    users = [f"u{index}" for index in range(200)]

    def owners(endpoints: list[Endpoint]) -> list[str]:
        picker = balancer.update(endpoints)
        return [getattr(picker.pick(request_of(user), None), "hash_key", "") for user in users]

    before = [Endpoint("s", name, f"10.0.0.{index}:1", {}) for index, name in enumerate("abcd")]
    after = [Endpoint("s", name, f"10.9.9.{index}:2", {}, incarnation=5) for index, name in enumerate("dcba")]
    assert owners(before) == owners(after)
    assert owners([endpoint("other", hash_key=name) for name in "abcd"]) == owners(before)


def test_weights_are_shares(balancer: RingHashBalancer) -> None:
    weights = {"a": 1, "b": 2, "c": 4, "z": 0}
    big = RingHashBalancer([MetadataSource("x-user")], 1024, 4096, random.Random(3))
    picker = big.update([endpoint(name, weight) for name, weight in weights.items()])
    counts = Counter(getattr(picker.pick(request_of(f"user-{i}"), None), "instance_id", "") for i in range(20_000))
    assert set(counts) == {"a", "b", "c"}
    for name, share in (("a", 1 / 7), ("b", 2 / 7), ("c", 4 / 7)):
        assert counts[name] / 20_000 == pytest.approx(share, rel=0.2)
