"""Every kind of mistake, with the line that it is reported on and what to do about it."""

import pytest

from gateway.config import ConfigError, parse_config

ROUTE = """routes:
  - name: r
    {}
    backends: [{{service: cart}}]
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "mesh.yaml")
    return caught.value.problems


# text, line, parts of the one sentence
MISTAKES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "unknown key": ("listen: 127.0.0.1:1\nadmn: 127.0.0.1:2\n", 2, ("unknown key 'admn'", "did you mean 'admin'?")),
    "unknown key far from any": ("zzz: 1\n", 1, ("unknown key 'zzz'", "known are listen, registry, admin")),
    "unknown key inside": (
        "services:\n  cart:\n    balancer:\n      policy: pick_first\n      polciy: x\n",
        5,
        ("services.cart.balancer: unknown key 'polciy'", "'policy'"),
    ),
    "unknown key in a match": (
        ROUTE.format("matches:\n      - method: {service: a}\n        header: []"),
        5,
        ("routes[0].matches[0]: unknown key 'header'", "'headers'"),
    ),
    "unknown key in a header": (
        ROUTE.format("matches:\n      - headers:\n          - name: x\n            valeu: y\n            value: z"),
        6,
        ("routes[0].matches[0].headers[0]: unknown key 'valeu'", "'value'"),
    ),
    "number for text": ("routes:\n  - name: 5\n    backends: [{service: a}]\n", 2, ("routes[0].name: 5", "quotes")),
    "bool for text": (
        ROUTE.format("matches:\n      - headers:\n          - {name: x, value: on}"),
        5,
        ("headers[0].value: true is not text to YAML", "quotes"),
    ),
    "number label": (
        "routes:\n- name: r\n  backends:\n  - service: a\n    subset:\n      version: 2\n",
        6,
        ("routes[0].backends[0].subset.version: 2", "quotes"),
    ),
    "text for number": (
        "routes:\n- name: r\n  backends:\n  - service: a\n    weight: many\n",
        5,
        ("backends[0].weight: 'many' is not a whole number",),
    ),
    "text for a list": ("registry: 127.0.0.1:7500\n", 1, ("registry: '127.0.0.1:7500' is not a list", "brackets")),
    "list for a mapping": ("services: [cart]\n", 1, ("services: a list is not a mapping",)),
    "no value": ("listen: 127.0.0.1:1\nregistry:\n", 2, ("registry: has no value",)),
    "top is a list": ("- a\n", 1, ("the file: a list is not a mapping",)),
    "duplicate key": (
        "listen: 127.0.0.1:1\nadmin: 127.0.0.1:2\nlisten: 127.0.0.1:3\n",
        3,
        ("'listen' twice", "line 1"),
    ),
    "duplicate service": ("services:\n  a: {}\n  b: {}\n  a: {}\n", 4, ("services has the key 'a' twice", "line 2")),
    "key that is no text": ("services:\n  1: {}\n", 2, ("services has a key that is not text",)),
    "merge key": ("services:\n  a: &a {}\n  b:\n    <<: *a\n", 4, ("services.b has a key that is not text",)),
    "own tag": ("listen: !here 127.0.0.1:1\n", 1, ("listen has the tag !here",)),
    "syntax": ("listen: 127.0.0.1:1\nroutes: [\n", 3, ("not YAML",)),
    "tab": ("services:\n\tcart: {}\n", 2, ("not YAML", "indentation")),
    "two documents": ("listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:1\n", 2, ("not YAML", "another document")),
    "address without a port": ("listen: localhost\n", 1, ("listen: 'localhost' is not an address", "host:port")),
    "port out of range": ("listen: localhost:65536\n", 1, ("'localhost:65536' is not an address",)),
    "registry address": ("registry:\n  - 127.0.0.1:7500\n  - nowhere\n", 3, ("registry[1]: 'nowhere'", "host:port")),
    "registry at port 0": ("registry:\n  - 127.0.0.1:0\n", 2, ("registry[0]: '127.0.0.1:0' cannot be dialled",)),
    "service name": ("services:\n  a/b: {}\n", 2, ("services.a/b: 'a/b' is not a service name",)),
    "unknown policy": (
        "services:\n  a:\n    balancer:\n      policy: fastest\n",
        4,
        ("policy: 'fastest' is not known here", "'pick_first', 'round_robin' or 'ring_hash'"),
    ),
    "policy missing": ("services:\n  a:\n    balancer: {}\n", 3, ("services.a.balancer: 'policy' is missing",)),
    "hash_on without ring_hash": (
        "services:\n  a:\n    balancer:\n      policy: round_robin\n      hash_on: [{authority: true}]\n",
        5,
        ("balancer.hash_on: only ring_hash uses it, not round_robin", "remove it"),
    ),
    "ring size without ring_hash": (
        "services:\n  a:\n    balancer:\n      policy: pick_first\n      max_ring_size: 9\n",
        5,
        ("max_ring_size: only ring_hash uses it",),
    ),
    "ring_hash without hash_on": (
        "services:\n  a:\n    balancer:\n      policy: ring_hash\n",
        4,
        ("ring_hash has nothing to hash", "add hash_on"),
    ),
    "ring sizes the wrong way round": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on: [{authority: true}]\n   min_ring_size: 5000\n",
        6,
        ("min_ring_size: 5000 is above max_ring_size (4096)",),
    ),
    "ring too large": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on: [{authority: true}]\n   max_ring_size: 99999\n",
        6,
        ("max_ring_size: 99999 is too large: use 65536 or less",),
    ),
    "two hash sources": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on:\n   - {authority: true, metadata: x}\n",
        6,
        ("hash_on[0]: give exactly one of",),
    ),
    "no hash source": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on:\n   - {terminal: true}\n",
        6,
        ("hash_on[0]: give exactly one of",),
    ),
    "hash on authority: false": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on:\n   - {authority: false}\n",
        6,
        ("hash_on[0].authority: false is not known here", "use true"),
    ),
    "hash on binary metadata": (
        "services:\n a:\n  balancer:\n   policy: ring_hash\n   hash_on:\n   - {metadata: x-bin}\n",
        6,
        ("hash_on[0]: 'x-bin' is binary metadata",),
    ),
    "route without backends": ("routes:\n  - name: r\n", 2, ("routes[0]: 'backends' is missing",)),
    "route with no backend": ("routes:\n  - name: r\n    backends: []\n", 3, ("a route needs a backend",)),
    "route without a name": ("routes:\n  - backends: [{service: a}]\n", 2, ("routes[0]: 'name' is missing",)),
    "blank route name": ("routes:\n  - name: ' '\n    backends: [{service: a}]\n", 2, ("a route needs a name",)),
    "weights all zero": (
        "routes:\n- name: r\n  backends:\n  - {service: a, weight: 0}\n  - {service: b, weight: 0}\n",
        3,
        ("routes[0].backends: every weight is 0", "above 0"),
    ),
    "negative weight": (
        "routes:\n- name: r\n  backends:\n  - service: a\n    weight: -1\n",
        5,
        ("weight: -1 is too small: use 0 or more",),
    ),
    "hostname with a port": (ROUTE.format("hostnames: [a.b, 'a.b:80']"), 3, ("hostnames[1]: 'a.b:80' is not a host",)),
    "hostname with an inner star": (ROUTE.format("hostnames: ['a.*.b']"), 3, ("'a.*.b' is not a hostname",)),
    "method without names": (
        ROUTE.format("matches: [{method: {type: Exact}}]"),
        3,
        ("matches[0].method: give service, method or both",),
    ),
    "service as a path": (
        ROUTE.format("matches:\n      - method:\n          service: /shop.Cart"),
        5,
        ("method.service: '/shop.Cart' is not a service name", "without slashes"),
    ),
    "unknown match type": (
        ROUTE.format("matches: [{method: {service: a, type: Regex}}]"),
        3,
        ("method.type: 'Regex' is not known here", "'Exact' or 'RegularExpression'"),
    ),
    "bad regular expression": (
        ROUTE.format("matches:\n      - method:\n          type: RegularExpression\n          method: '(a'"),
        6,
        ("method.method: the regular expression '(a' does not compile",),
    ),
    "regular expression that could stall": (
        ROUTE.format("matches: [{headers: [{name: x, type: RegularExpression, value: '(a+)+'}]}]"),
        3,
        ("headers[0]: the regular expression '(a+)+'", "possessive"),
    ),
    "metadata name": (
        ROUTE.format("matches: [{headers: [{name: ':path', value: x}]}]"),
        3,
        ("headers[0].name: ':path' is not a metadata name",),
    ),
    "value missing": (
        ROUTE.format("matches: [{headers: [{name: x}]}]"),
        3,
        ("headers[0]: type Exact needs a value", "type: Present"),
    ),
    "value of Present": (
        ROUTE.format("matches: [{headers: [{name: x, type: Present, value: y}]}]"),
        3,
        ("headers[0].value: type Present compares no value",),
    ),
    "value of binary metadata": (
        ROUTE.format("matches: [{headers: [{name: x-bin, value: y}]}]"),
        3,
        ("headers[0]: 'x-bin' holds binary metadata", "Present"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_mistake(mistake: str) -> None:
    text, line, parts = MISTAKES[mistake]
    problems = problems_of(text)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"mesh.yaml:{line}: "), problems[0]
    for part in parts:
        assert part in problems[0]


def test_all_mistakes_are_listed_in_the_order_of_the_file() -> None:
    problems = problems_of(
        "listen: nowhere\n"
        "services:\n"
        "  a: {balancer: {policy: fastest}}\n"
        "routes:\n"
        "  - name: same\n"
        "    backends: []\n"
        "  - name: same\n"
        "    backends: [{service: a, weight: 0}]\n"
        "  - name: same\n"
        "    backends: [{servce: a}]\n"
    )
    assert [problem.split(": ", 2)[:2] for problem in problems] == [
        ["mesh.yaml:1", "listen"],
        ["mesh.yaml:3", "services.a.balancer.policy"],
        ["mesh.yaml:6", "routes[0].backends"],
        ["mesh.yaml:7", "routes[1].name"],
        ["mesh.yaml:8", "routes[1].backends"],
        ["mesh.yaml:9", "routes[2].name"],
        ["mesh.yaml:10", "routes[2].backends[0]"],
        ["mesh.yaml:10", "routes[2].backends[0]"],
    ]
    assert "already the name of the route on line 5" in problems[3]


def test_duplicate_route_name_alone() -> None:
    text = "routes:\n- {name: r, backends: [{service: a}]}\n- {name: r, backends: [{service: a}]}\n"
    assert problems_of(text) == [
        "mesh.yaml:3: routes[1].name: 'r' is already the name of the route on line 2: give each route its own"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"b{i}: &b{i} [{', '.join(['*a' if i == 0 else f'*b{i - 1}'] * 9)}]\n" for i in range(8)),
        "a: " + "[" * 500,
        "listen: \x00\n",
    ],
    ids=["an alias to itself", "aliases of aliases", "deep nesting", "not text"],
)
def test_a_hostile_file_is_refused_quickly(text: str) -> None:
    assert len(problems_of(text)) == 1


def test_a_route_may_name_a_service_that_is_not_configured() -> None:
    parse_config("routes: [{name: r, backends: [{service: not-there-yet}]}]", "f")
