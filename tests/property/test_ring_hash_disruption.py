"""How many keys move when an instance comes or goes: the promise of consistent hashing, measured."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.balancing.request_hash import MetadataSource
from gateway.balancing.ring_hash import DEFAULT_MAX_RING_SIZE, DEFAULT_MIN_RING_SIZE, RingHashBalancer
from gateway.model import Endpoint, Field, Request

KEYS = [f"user-{index}" for index in range(4000)]


def owners(names: list[str], keys: list[str]) -> dict[str, str]:
    sources = [MetadataSource("x-user")]
    balancer = RingHashBalancer(sources, DEFAULT_MIN_RING_SIZE, DEFAULT_MAX_RING_SIZE, random.Random(0))
    picker = balancer.update([Endpoint("s", name, "127.0.0.1:1", {}) for name in names])
    found = {}
    for key in keys:
        endpoint = picker.pick(Request(b"/p.S/M", b"h", [Field(b"x-user", key.encode())], ""), None)
        assert endpoint is not None
        found[key] = endpoint.instance_id
    return found


@pytest.mark.parametrize("leaver", range(10))
def test_removing_one_of_ten_moves_few_keys(leaver: int) -> None:
    names = [f"instance-{index}" for index in range(10)]
    before = owners(names, KEYS)
    after = owners([name for name in names if name != names[leaver]], KEYS)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert len(moved) / len(KEYS) < 0.15
    assert all(before[key] == names[leaver] for key in moved)


def test_adding_one_to_ten_moves_few_keys() -> None:
    names = [f"instance-{index}" for index in range(10)]
    before = owners(names, KEYS)
    after = owners([*names, "newcomer"], KEYS)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert len(moved) / len(KEYS) < 0.15
    assert all(after[key] == "newcomer" for key in moved)


@pytest.mark.parametrize("count", [2, 5, 8, 16, 31, 40, 100])
def test_disruption_is_bounded_for_any_number_of_instances(count: int) -> None:
    names = [f"instance-{index}" for index in range(count)]
    before = owners(names, KEYS)
    after = owners(names[:-1], KEYS)
    moved = sum(before[key] != after[key] for key in KEYS)
    # The keys of the one that left, and at most as many again where the size of the ring binds.
    assert moved / len(KEYS) < 2.5 / count


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("abcdef0123456789", min_size=4, max_size=12), min_size=2, max_size=20), st.randoms())
def test_the_order_of_announcement_never_matters(names: set[str], rng: random.Random) -> None:
    ordered = sorted(names)
    shuffled = list(ordered)
    rng.shuffle(shuffled)
    assert owners(ordered, KEYS[:100]) == owners(shuffled, KEYS[:100])
