"""A route: which calls it takes, and where they go. Immutable once built."""

from typing import Final

from gateway.model import Request
from gateway.routing.matchers import HeaderMatch, HostMatch, TextMatcher


class Backend:
    """One destination of a route: a target key and its share of the calls. Weight 0 gets none."""

    def __init__(self, target: str, weight: int = 1) -> None:
        self.target: Final = target
        self.weight: Final = weight


class Match:
    """One set of conditions that must all hold; a None or an empty list asks nothing."""

    def __init__(
        self,
        service: TextMatcher | None = None,
        method: TextMatcher | None = None,
        headers: list[HeaderMatch] | None = None,
    ) -> None:
        self.service: Final = service
        self.method: Final = method
        self.headers: Final[list[HeaderMatch]] = [] if headers is None else headers

    def takes_method(self, service: bytes, method: bytes) -> bool:
        """Whether a call's method passes; what is asked of its metadata is left aside."""
        wanted_service = self.service
        if wanted_service is not None and not wanted_service.matches(service):
            return False
        wanted_method = self.method
        return wanted_method is None or wanted_method.matches(method)

    def takes_headers(self, request: Request) -> bool:
        """Whether a call's metadata passes."""
        for header in self.headers:  # noqa: SIM110 - a generator would cost a call a header
            if not header.matches(request):
                return False
        return True

    def describe(self) -> str:
        """The conditions in words that identify them."""
        parts = []
        if self.service is not None:
            parts.append(f"service {self.service.kind} {self.service.text!r}")
        if self.method is not None:
            parts.append(f"method {self.method.kind} {self.method.text!r}")
        parts.extend(f"header {header.describe()}" for header in self.headers)
        return " and ".join(parts) or "any call"


class Route:
    """Calls for any of ``hostnames`` (empty: every authority) that pass any of ``matches`` go to ``backends``.

    Raises ValueError when no backend has a weight, since the route could then send its calls nowhere.
    """

    def __init__(self, name: str, hostnames: list[str], matches: list[Match], backends: list[Backend]) -> None:
        self.name: Final = name
        self.hosts: Final = [HostMatch(hostname) for hostname in hostnames]
        self.matches: Final = matches
        self.backends: Final = backends
        self._targets: list[str] = []
        self._cumulative: list[int] = []
        total = 0
        for backend in backends:
            if backend.weight > 0:
                total += backend.weight
                self._targets.append(backend.target)
                self._cumulative.append(total)
        if total == 0:
            raise ValueError(f"route {name!r} has no backend with a weight above 0")
        self._total: Final = total

    def choose(self, random01: float) -> str:
        """The target key for one call, by weight; ``random01`` is drawn evenly from [0, 1)."""
        last = len(self._targets) - 1
        if last == 0:
            return self._targets[0]
        point = random01 * self._total
        for index in range(last):
            if point < self._cumulative[index]:
                return self._targets[index]
        return self._targets[last]

    def describe(self) -> str:
        """The route in words that identify it: two routes with the same words do the same."""
        hosts = ", ".join((b"*" + host.text if host.wildcard else host.text).decode() for host in self.hosts)
        matches = "; ".join(match.describe() for match in self.matches)
        backends = ", ".join(f"{backend.target} x{backend.weight}" for backend in self.backends)
        return f"{self.name!r} on [{hosts}] takes [{matches}] to [{backends}]"
