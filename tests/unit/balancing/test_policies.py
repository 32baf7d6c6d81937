"""pick_first and round_robin: order, turns, availability, and what an update keeps."""

import random
from collections import Counter

import pytest

from gateway.balancing.picker import Picker
from gateway.balancing.service import POLICIES, PolicySpec, make_balancer
from gateway.model import IDLE, TRANSIENT_FAILURE, Endpoint, Request

REQUEST = Request(b"/p.S/M", b"host", [], "10.0.0.1")


def endpoint(name: str, weight: int = 1, incarnation: int = 0) -> Endpoint:
    return Endpoint("s", name, f"127.0.0.1:{ord(name[0])}", {}, weight, incarnation)


def picks(picker: Picker, count: int, avoid: Endpoint | None = None) -> str:
    chosen = [picker.pick(REQUEST, avoid) for _ in range(count)]
    return "".join("-" if one is None else one.instance_id for one in chosen)


def fail(*endpoints: Endpoint) -> None:
    for one in endpoints:
        one.state = TRANSIENT_FAILURE


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_the_picker_contract(policy: str, rng: random.Random) -> None:
    balancer = make_balancer(PolicySpec(policy), rng)
    assert balancer.update([]).pick(REQUEST, None) is None
    a, b, never = endpoint("a"), endpoint("b"), endpoint("n", weight=0)
    picker = balancer.update([never, b, a])
    assert set(picks(picker, 50)) <= {"a", "b"}
    assert set(picks(picker, 20, avoid=a)) == {"b"}
    fail(b)
    assert set(picks(picker, 20)) == {"a"}
    assert set(picks(picker, 20, avoid=a)) == {"a"}  # there is no other
    fail(a)
    assert picker.pick(REQUEST, None) is None
    assert picker.pick(REQUEST, a) is None
    gone = endpoint("x")
    assert picker.pick(REQUEST, gone) is None
    a.state = IDLE
    assert picker.pick(REQUEST, gone) is a


@pytest.mark.parametrize("policy", POLICIES)
def test_an_avoided_endpoint_that_is_not_listed_is_never_picked(policy: str, rng: random.Random) -> None:
    picker = make_balancer(PolicySpec(policy), rng).update([])
    assert picker.pick(REQUEST, endpoint("x")) is None


def test_unknown_policy() -> None:
    with pytest.raises(ValueError, match="use one of pick_first, round_robin, ring_hash"):
        PolicySpec("fastest")


def test_policies_tell_themselves_apart() -> None:
    assert PolicySpec().identity == "round_robin"
    assert PolicySpec("ring_hash", min_ring_size=2).identity != PolicySpec("ring_hash").identity


def test_pick_first_takes_the_first_by_instance_id(rng: random.Random) -> None:
    picker = make_balancer(PolicySpec("pick_first"), rng).update([endpoint("c"), endpoint("a"), endpoint("b")])
    assert picks(picker, 3) == "aaa"


def test_pick_first_stays_where_it_went(rng: random.Random) -> None:
    a, b, c = endpoint("a"), endpoint("b"), endpoint("c")
    picker = make_balancer(PolicySpec("pick_first"), rng).update([a, b, c])
    fail(a)
    assert picks(picker, 2) == "bb"
    a.state = IDLE
    assert picks(picker, 2) == "bb"  # back again is no reason to move


def test_pick_first_moves_one_refused_call_alone(rng: random.Random) -> None:
    a, b = endpoint("a"), endpoint("b")
    picker = make_balancer(PolicySpec("pick_first"), rng).update([a, b])
    assert picks(picker, 1) == "a"
    assert picks(picker, 1, avoid=a) == "b"
    assert picks(picker, 2) == "aa"


def test_pick_first_survives_updates(rng: random.Random) -> None:
    a, b, c = endpoint("a"), endpoint("b"), endpoint("c")
    balancer = make_balancer(PolicySpec("pick_first"), rng)
    assert picks(balancer.update([b, c]), 1) == "b"
    assert picks(balancer.update([a, b, c]), 1) == "b"
    assert picks(balancer.update([a, c]), 1) == "a"


def test_round_robin_is_fair_whatever_the_weights(rng: random.Random) -> None:
    picker = make_balancer(PolicySpec(), rng).update([endpoint("a", 9), endpoint("b"), endpoint("c", 3)])
    assert Counter(picks(picker, 30)) == {"a": 10, "b": 10, "c": 10}


def test_round_robin_takes_turns_in_order(rng: random.Random) -> None:
    picker = make_balancer(PolicySpec(), rng).update([endpoint("c"), endpoint("b"), endpoint("a")])
    assert picks(picker, 6) in ("abcabc", "bcabca", "cabcab")


def test_round_robin_starts_at_random() -> None:
    def first(seed: int) -> str:
        balancer = make_balancer(PolicySpec(), random.Random(seed))
        return picks(balancer.update([endpoint(name) for name in "abcdefgh"]), 1)

    assert len({first(seed) for seed in range(50)}) == 8


def test_round_robin_gives_the_turns_of_failed_endpoints_to_all(rng: random.Random) -> None:
    endpoints = [endpoint(name) for name in "abcdefghij"]
    picker = make_balancer(PolicySpec(), rng).update(endpoints)
    fail(*endpoints[2:5])
    counts = Counter(picks(picker, 700))
    assert set(counts) == set("abfghij")
    assert max(counts.values()) - min(counts.values()) <= 2


def test_round_robin_goes_on_after_an_update(rng: random.Random) -> None:
    a, b, c, d = (endpoint(name) for name in "abcd")
    balancer = make_balancer(PolicySpec(), rng)
    picker = balancer.update([a, b, c])
    while picks(picker, 1) != "a":
        pass
    assert picks(balancer.update([a, b, c, d]), 5) == "bcdab"
    assert picks(balancer.update([a, c, d]), 2) == "cd"
    assert picks(balancer.update([a, b]), 2) == "ab"


def test_round_robin_tells_two_lives_of_an_instance_apart(rng: random.Random) -> None:
    old, new = endpoint("a", incarnation=1), endpoint("a", incarnation=2)
    picker = make_balancer(PolicySpec(), rng).update([new, old])
    assert {picker.pick(REQUEST, None), picker.pick(REQUEST, None)} == {old, new}
