"""The one immutable thing that the request path reads: routes, pickers and a generation.

The control side builds a whole new one and swaps a single reference; a call keeps the one it started with.
"""

from mypy_extensions import mypyc_attr

from gateway.balancing.picker import Picker
from gateway.model import Endpoint
from gateway.routing.table import RouteTable


class Target:
    """A service, or a labelled subset of one, that a route can send calls to."""

    def __init__(self, key: str, service: str, picker: Picker, endpoints: list[Endpoint]) -> None:
        self.key = key  # "cart", or "cart{version=v2}"
        self.service = service
        self.picker = picker
        self.endpoints = endpoints  # those that may be picked


class Snapshot:
    """Routes and targets of one generation.

    ``methods`` is the zero-config routing: full gRPC service name (``b"pkg.Service"``) to target key.
    ``ambiguous`` maps a gRPC service name to the services that both declared it: none of them gets its calls.
    ``synced`` is false until a first view of the mesh has arrived.
    """

    def __init__(
        self,
        generation: int,
        routes: RouteTable,
        targets: dict[str, Target],
        methods: dict[bytes, str],
        ambiguous: dict[bytes, list[str]],
        synced: bool,
    ) -> None:
        self.generation = generation
        self.routes = routes
        self.targets = targets
        self.methods = methods
        self.ambiguous = ambiguous
        self.synced = synced


@mypyc_attr(allow_interpreted_subclasses=True)
class SnapshotSink:
    """Takes each new snapshot; implemented by whoever owns the request path and its connections."""

    def swap(self, snapshot: Snapshot, removed: list[Endpoint]) -> None:
        """From now on new calls use this snapshot. ``removed`` endpoints are in no snapshot any more."""
        raise NotImplementedError
