"""The base classes of balancing policies."""

from mypy_extensions import mypyc_attr

from gateway.model import Endpoint, Request


@mypyc_attr(allow_interpreted_subclasses=True)
class Picker:
    """An immutable choice among the endpoints that a balancer knew when it built it."""

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        """The endpoint for this call, or None when none is available (NO_ENDPOINT).

        Never blocks. ``avoid`` is the endpoint that just refused this call: chosen again only if there is no other
        available one. Endpoints whose ``available()`` is false are never chosen.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Hears of endpoint changes and builds a picker for each new set. Lives as long as its service's policy does."""

    def update(self, endpoints: list[Endpoint]) -> Picker:
        """A picker over exactly these endpoints; all of them may be chosen (draining ones are left out before)."""
        raise NotImplementedError
