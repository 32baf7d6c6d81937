"""All routes of one snapshot, in the order in which they claim a call.

Precedence is that of the Gateway API's GRPCRoute: the most specific hostname, then the longest service match, then the
longest method match, then the number of header matches; the order in the file breaks what ties are left. An exact text
comes before any regular expression, and a longer regular expression before a shorter one. Every hostname of a route
with every match of it is one rule, and a rule's place is known before any call, so that matching is one walk.
"""

from typing import Final

from gateway.model import Request
from gateway.routing.matchers import RANK_ANY, RANK_EXACT, RANK_PATTERN, HostMatch, TextMatcher, host_of
from gateway.routing.route import Match, Route

# Distinct paths whose rules are remembered; more than the methods of a large mesh. When it is full it starts over,
# so that a caller sending random paths costs one walk over the rules a path, and no memory.
MAX_CACHED_PATHS: Final = 1024

# Longer paths are not remembered, which bounds the bytes held as well.
MAX_CACHED_PATH_BYTES: Final = 256

Precedence = tuple[int, int, int, int, int, int, int, int]


class Rule:
    """One hostname (or None for any) with one match of a route. ``order`` is its place in the file."""

    def __init__(self, route: Route, host: HostMatch | None, match: Match, order: int) -> None:
        self.route: Final = route
        self.host: Final = host
        self.match: Final = match
        self.order: Final = order

    def unconditional(self) -> bool:
        """Whether it takes every call whose method passes."""
        return self.host is None and not self.match.headers


def precedence(rule: Rule) -> Precedence:
    """The sort key of a rule: smaller claims first."""
    host_rank, host_length = RANK_ANY, 0
    if rule.host is not None:
        host_rank = RANK_PATTERN if rule.host.wildcard else RANK_EXACT
        host_length = len(rule.host.text)
    service_rank, service_length = specificity(rule.match.service)
    method_rank, method_length = specificity(rule.match.method)
    return (
        -host_rank,
        -host_length,
        -service_rank,
        -service_length,
        -method_rank,
        -method_length,
        -len(rule.match.headers),
        rule.order,
    )


def specificity(matcher: TextMatcher | None) -> tuple[int, int]:
    """The rank and length of what is asked of a service or method."""
    if matcher is None:
        return RANK_ANY, 0
    return matcher.rank, len(matcher.text)


class RouteTable:
    """Every route, ready to match. Immutable but for its bounded memory of the paths it has seen.

    ``identity`` says what the table does, in words: equal texts, equal tables.
    """

    def __init__(self, routes: list[Route]) -> None:
        self.routes: Final = routes
        self.identity: Final = "\n".join([route.describe() for route in routes])
        rules: list[Rule] = []
        for route in routes:
            hosts: list[HostMatch | None] = [None]
            if route.hosts:
                hosts = list(route.hosts)
            for match in route.matches or [Match()]:
                for host in hosts:
                    rules.append(Rule(route, host, match, len(rules)))
        rules.sort(key=precedence)
        self._rules: Final = rules
        self._by_path: dict[bytes, list[Rule]] = {}

    def match(self, path: bytes, authority: bytes, request: Request) -> Route | None:
        """The route that takes the call, or None. ``path`` is ``/pkg.Service/Method`` as received, never rewritten."""
        if not self._rules:
            return None
        rules = self._by_path.get(path)
        if rules is None:
            rules = self._remember(path)
        host: bytes | None = None
        for rule in rules:
            wanted = rule.host
            if wanted is not None:
                if host is None:
                    host = host_of(authority)
                if not wanted.matches(host):
                    continue
            if rule.match.takes_headers(request):
                return rule.route
        return None

    def cached_paths(self) -> int:
        """How many paths are remembered; never more than MAX_CACHED_PATHS."""
        return len(self._by_path)

    def _remember(self, path: bytes) -> list[Rule]:
        """The rules that can take a path, kept for the next call of it."""
        rules = self._candidates(path)
        if len(path) <= MAX_CACHED_PATH_BYTES:
            if len(self._by_path) >= MAX_CACHED_PATHS:
                self._by_path = {}
            self._by_path[path] = rules
        return rules

    def _candidates(self, path: bytes) -> list[Rule]:
        """The rules whose method passes, in order, up to the first that nothing further can deny."""
        found: list[Rule] = []
        # The last slash ends the service's name, as gRPC servers read it.
        slash = path.rfind(b"/")
        if slash < 2 or not path.startswith(b"/"):
            return found
        service = path[1:slash]
        method = path[slash + 1 :]
        for rule in self._rules:
            if rule.match.takes_method(service, method):
                found.append(rule)
                if rule.unconditional():
                    break
        return found
