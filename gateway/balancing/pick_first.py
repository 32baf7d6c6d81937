"""pick_first: every call goes to one endpoint, and stays there while that is available."""

from gateway.balancing.order import has, in_order
from gateway.balancing.picker import Balancer, Picker
from gateway.model import Endpoint, Request


class PickFirstPicker(Picker):
    """The current endpoint, or the first available one in order, which then becomes the current one.

    A call that avoids the current endpoint goes elsewhere alone: one refusal is no reason to move everybody.
    """

    def __init__(self, endpoints: list[Endpoint], current: Endpoint | None) -> None:
        self._endpoints = endpoints
        self._current = current

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        """The endpoint for this call, or None when none is available."""
        current = self._current
        usable = current is not None and current.available()
        if usable and current is not avoid:
            return current
        for endpoint in self._endpoints:
            if endpoint is not avoid and endpoint.available():
                if not usable:
                    self._current = endpoint
                return endpoint
        if avoid is not None and avoid.available() and has(self._endpoints, avoid):
            return avoid
        return None

    def current(self) -> Endpoint | None:
        """The endpoint that calls stick to."""
        return self._current


class PickFirstBalancer(Balancer):
    """Keeps to the same endpoint over updates, as long as it is still listed."""

    def __init__(self) -> None:
        self._picker: PickFirstPicker | None = None

    def update(self, endpoints: list[Endpoint]) -> Picker:
        """A picker over exactly these endpoints."""
        ordered = in_order(endpoints)
        current: Endpoint | None = None
        before = self._picker
        if before is not None:
            current = before.current()
            if current is not None and not has(ordered, current):
                current = None
        self._picker = PickFirstPicker(ordered, current)
        return self._picker
