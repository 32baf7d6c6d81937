"""Weighted choice, target keys, and what tells two routes apart."""

import random

import pytest

from gateway.routing.matchers import HeaderMatch, text_matcher
from gateway.routing.route import Backend, Match, Route
from gateway.routing.target import TargetSpec, target_key


def weighted(*weights: int) -> Route:
    return Route("r", [], [], [Backend(f"t{index}", weight) for index, weight in enumerate(weights)])


@pytest.mark.parametrize(
    ("weights", "random01", "target"),
    [
        ((10, 90), 0.0, "t0"),
        ((10, 90), 0.0999, "t0"),
        ((10, 90), 0.1, "t1"),
        ((10, 90), 0.999999, "t1"),
        ((0, 1), 0.0, "t1"),
        ((1, 0), 0.999999, "t0"),
        ((1, 0, 1), 0.5, "t2"),
        ((1, 1), 1.0, "t1"),  # beyond the promised range, still a backend
        ((7,), 0.3, "t0"),
    ],
)
def test_choose(weights: tuple[int, ...], random01: float, target: str) -> None:
    assert weighted(*weights).choose(random01) == target


def test_shares_follow_the_weights() -> None:
    route = weighted(10, 0, 90)
    rng = random.Random(7)
    chosen = [route.choose(rng.random()) for _ in range(20_000)]
    assert chosen.count("t1") == 0
    assert chosen.count("t0") / 20_000 == pytest.approx(0.10, abs=0.01)


def test_no_weight_at_all() -> None:
    with pytest.raises(ValueError, match="no backend with a weight above 0"):
        weighted(0, 0)


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        ({}, "cart"),
        ({"version": "v2"}, "cart{version=v2}"),
        ({"zone": "a", "version": "v2"}, "cart{version=v2,zone=a}"),
        ({"a": "1,b=2"}, r"cart{a=1\,b\=2}"),
        ({"a": "1", "b": "2"}, "cart{a=1,b=2}"),
    ],
)
def test_target_key(labels: dict[str, str], key: str) -> None:
    assert target_key("cart", labels) == key


def test_target_selects_by_all_its_labels() -> None:
    spec = TargetSpec("cart", {"version": "v2", "zone": "a"})
    assert spec.selects({"version": "v2", "zone": "a", "more": "x"})
    assert not spec.selects({"version": "v2"})
    assert not spec.selects({"version": "v1", "zone": "a"})
    assert TargetSpec("cart", {}).selects({})


def test_description_tells_routes_apart() -> None:
    def described(
        service: str = "p.S", kind: str = "Exact", invert: bool = False, host: str = "a", weight: int = 1
    ) -> str:
        match = Match(text_matcher(kind, service), None, [HeaderMatch("x", None, invert)])
        return Route("r", [host], [match], [Backend("t", weight)]).describe()

    texts = [
        described(),
        described(service="p.T"),
        described(kind="RegularExpression"),
        described(invert=True),
        described(host="*.a"),
        described(weight=2),
    ]
    assert len(set(texts)) == len(texts)
    assert described() == texts[0]
