"""Precedence, candidates and the bounded memory of paths."""

import pytest

from gateway.model import Field, Request
from gateway.routing.matchers import HeaderMatch, TextMatcher, text_matcher
from gateway.routing.route import Backend, Match, Route
from gateway.routing.table import MAX_CACHED_PATH_BYTES, MAX_CACHED_PATHS, RouteTable

PATH = b"/shop.Cart/Checkout"


def text(value: str | None) -> TextMatcher | None:
    """``~x`` is a regular expression, anything else exact."""
    if value is None:
        return None
    return text_matcher("RegularExpression", value[1:]) if value.startswith("~") else text_matcher("Exact", value)


def match_of(service: str | None = None, method: str | None = None, headers: int = 0) -> Match:
    return Match(text(service), text(method), [HeaderMatch(f"x-{index}", None) for index in range(headers)])


def route(name: str, *matches: Match, hosts: tuple[str, ...] = ()) -> Route:
    return Route(name, list(hosts), list(matches), [Backend(name)])


def found(table: RouteTable, path: bytes = PATH, authority: bytes = b"shop.example.com:80", headers: int = 9) -> str:
    fields = [Field(f"x-{index}".encode(), b"v") for index in range(headers)]
    route = table.match(path, authority, Request(path, authority, fields, ""))
    return "" if route is None else route.name


# Each row: the route that must win, and one that must lose, whichever comes first in the file.
PRECEDENCE = {
    "exact host before longer wildcard": (
        route("win", match_of(), hosts=("shop.example.com",)),
        route("lose", match_of("shop.Cart", "Checkout", 3), hosts=("*.example.com",)),
    ),
    "longer wildcard before shorter": (
        route("win", match_of(), hosts=("*.example.com",)),
        route("lose", match_of("shop.Cart", "Checkout", 3), hosts=("*.com",)),
    ),
    "any host named before none": (
        route("win", match_of(), hosts=("*.com",)),
        route("lose", match_of("shop.Cart", "Checkout", 3)),
    ),
    "service before method": (
        route("win", match_of("shop.Cart")),
        route("lose", match_of(None, "Checkout", 3)),
    ),
    "exact service before a longer pattern": (
        route("win", match_of("shop.Cart")),
        route("lose", match_of("~shop[.](Cart|Order|Basket)", "Checkout", 3)),
    ),
    "longer service pattern before shorter": (
        route("win", match_of("~shop[.].*")),
        route("lose", match_of("~shop.*", "Checkout", 3)),
    ),
    "any service named before none": (
        route("win", match_of("~.*")),
        route("lose", match_of(None, "Checkout", 3)),
    ),
    "method before headers": (
        route("win", match_of("shop.Cart", "Checkout")),
        route("lose", match_of("shop.Cart", None, 3)),
    ),
    "exact method before a pattern": (
        route("win", match_of("shop.Cart", "Checkout")),
        route("lose", match_of("shop.Cart", "~Check(in|out|er)", 3)),
    ),
    "more headers before fewer": (
        route("win", match_of("shop.Cart", "Checkout", 2)),
        route("lose", match_of("shop.Cart", "Checkout", 1)),
    ),
    "the best match of a route counts": (
        route("win", match_of(), match_of("shop.Cart", "Checkout")),
        route("lose", match_of("shop.Cart")),
    ),
}


@pytest.mark.parametrize("case", PRECEDENCE)
def test_precedence_whatever_the_order(case: str) -> None:
    win, lose = PRECEDENCE[case]
    assert found(RouteTable([win, lose])) == "win"
    assert found(RouteTable([lose, win])) == "win"


def test_order_in_the_file_is_the_last_tie_break() -> None:
    first, second = route("first", match_of("shop.Cart")), route("second", match_of("shop.Cart"))
    assert found(RouteTable([first, second])) == "first"
    assert found(RouteTable([second, first])) == "second"


def test_a_route_that_asks_nothing_takes_every_call() -> None:
    table = RouteTable([route("all")])
    assert found(table) == "all"
    assert found(table, b"/other.Service/Any") == "all"


def test_falls_through_to_the_next_rule() -> None:
    table = RouteTable(
        [
            route("two headers", match_of("shop.Cart", "Checkout", 2)),
            route("one header", match_of("shop.Cart", None, 1)),
            route("other host", match_of("shop.Cart"), hosts=("other.example.com",)),
            route("service", match_of("shop.Cart")),
        ]
    )
    assert found(table, headers=2) == "two headers"
    assert found(table, headers=1) == "one header"
    assert found(table, headers=0) == "service"
    assert found(table, b"/shop.Cart/Add", headers=0) == "service"
    assert found(table, authority=b"other.example.com", headers=0) == "other host"
    assert found(table, b"/shop.Order/Add") == ""


@pytest.mark.parametrize("path", [b"", b"/", b"//", b"//M", b"shop.Cart/Checkout", b"/shop.Cart", b"*", b"shop.Cart"])
def test_a_path_that_is_no_method_matches_nothing(path: bytes) -> None:
    assert found(RouteTable([route("all")]), path) == ""


@pytest.mark.parametrize(
    "path",
    [
        b"/shop.cart/Checkout",
        b"/shop.Cart/checkout",
        b"/shop.Cart/Checkout/",
        b"/shop.Cart/Checkout?x",
        b"//shop.Cart/Checkout",
    ],
)
def test_the_path_is_compared_as_it_came(path: bytes) -> None:
    assert found(RouteTable([route("r", match_of("shop.Cart", "Checkout"))]), path) == ""


def test_the_last_slash_ends_the_service() -> None:
    table = RouteTable([route("r", match_of("a/b", "M"))])
    assert found(table, b"/a/b/M") == "r"


def test_an_empty_table() -> None:
    table = RouteTable([])
    assert found(table) == ""
    assert table.cached_paths() == 0


def test_random_paths_grow_no_memory_and_hide_no_route() -> None:
    table = RouteTable([route("r", match_of("shop.Cart"))])
    for index in range(MAX_CACHED_PATHS * 2 + 10):
        assert found(table, f"/x.Y/{index}".encode()) == ""
        assert table.cached_paths() <= MAX_CACHED_PATHS
    assert found(table) == "r"
    before = table.cached_paths()
    assert found(table, b"/shop.Cart/" + b"m" * MAX_CACHED_PATH_BYTES) == "r"
    assert table.cached_paths() == before


def test_identity_says_what_a_table_does() -> None:
    one = [route("a", match_of("shop.Cart")), route("b", match_of())]
    same = [route("a", match_of("shop.Cart")), route("b", match_of())]
    assert RouteTable(one).identity == RouteTable(same).identity
    assert RouteTable(one).identity != RouteTable(list(reversed(same))).identity
