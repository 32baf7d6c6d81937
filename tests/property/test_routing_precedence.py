"""The winner of a call never depends on the order of the file, but between rules that are equally specific."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Field, Request
from gateway.routing.matchers import HeaderMatch, HostMatch, TextMatcher, host_of, text_matcher
from gateway.routing.route import Backend, Match, Route
from gateway.routing.table import RouteTable

SERVICES = ["a.A", "a.B", "b.Long"]
METHODS = ["Get", "Put", "List"]
HOSTS = ["x.example.com", "y.example.com", "example.com"]
NAMES = ["x-a", "x-b", "x-c"]

service_matchers = st.sampled_from(
    [None, *[("Exact", name) for name in SERVICES], *[("RegularExpression", p) for p in ["a[.].*", "[ab].+"]]]
)
method_matchers = st.sampled_from(
    [None, *[("Exact", name) for name in METHODS], *[("RegularExpression", p) for p in ["G.*", "[A-Z]..+"]]]
)
hostnames = st.sampled_from([None, *HOSTS, "*.example.com", "*.com"])
Spec = tuple[str | None, tuple[str, str] | None, tuple[str, str] | None, tuple[str, ...]]
specs = st.tuples(
    hostnames,
    service_matchers,
    method_matchers,
    st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(sorted).map(tuple),
)
calls = st.tuples(
    st.sampled_from(SERVICES),
    st.sampled_from(METHODS),
    st.sampled_from(HOSTS),
    st.lists(st.sampled_from(NAMES), unique=True),
)


def text(spec: tuple[str, str] | None) -> TextMatcher | None:
    return None if spec is None else text_matcher(*spec)


def build(specs: list[Spec]) -> RouteTable:
    routes = []
    for host, service, method, headers in specs:
        match = Match(text(service), text(method), [HeaderMatch(name, None) for name in headers])
        name = repr((host, service, method, headers))
        routes.append(Route(name, [] if host is None else [host], [match], [Backend("t")]))
    return RouteTable(routes)


def rank(spec: tuple[str, str] | None) -> tuple[int, int]:
    return (0, 0) if spec is None else (2 if spec[0] == "Exact" else 1, len(spec[1]))


def oracle(specs: list[Spec], service: str, method: str, host: str, names: list[str]) -> str | None:
    """The most specific of all that pass, found the slow way; None when none passes."""
    best: tuple[tuple[int, ...], str] | None = None
    for spec in specs:
        wanted_host, wanted_service, wanted_method, headers = spec
        service_matcher, method_matcher = text(wanted_service), text(wanted_method)
        if wanted_host is not None and not HostMatch(wanted_host).matches(host_of(host.encode())):
            continue
        if service_matcher is not None and not service_matcher.matches(service.encode()):
            continue
        if method_matcher is not None and not method_matcher.matches(method.encode()):
            continue
        if not set(headers) <= set(names):
            continue
        host_rank = (0, 0) if wanted_host is None else (1 if wanted_host.startswith("*") else 2, len(wanted_host))
        key = (*host_rank, *rank(wanted_service), *rank(wanted_method), len(headers))
        if best is None or key > best[0]:
            best = (key, repr(spec))
    return None if best is None else best[1]


@given(st.lists(specs, min_size=1, max_size=12, unique=True), st.lists(calls, min_size=1, max_size=6), st.randoms())
def test_the_most_specific_route_wins_in_any_order(specs: list[Spec], calls: list, rng: random.Random) -> None:
    # Two rules that are equally specific for the same call are decided by the file; the oracle takes the first as well.
    table = build(specs)
    shuffled = list(specs)
    rng.shuffle(shuffled)
    shuffled_table = build(shuffled)
    for service, method, host, names in calls:
        path = f"/{service}/{method}".encode()
        request = Request(path, host.encode(), [Field(name.encode(), b"1") for name in names], "")
        for made, order in ((table, specs), (shuffled_table, shuffled)):
            route = made.match(path, host.encode(), request)
            assert (None if route is None else route.name) == oracle(order, service, method, host, names)
