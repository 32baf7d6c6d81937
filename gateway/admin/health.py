"""grpc.health.v1 for the gateway and for every service behind it (gRFC A90 for List).

``""`` is the gateway. A name of the registry ("cart") or a declared gRPC service ("shop.Cart") is SERVING while a call
for it could be placed: an instance that is listed, ready, not draining, and whose endpoint is not failing.
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.admin.signal import Signal
from gateway.control.view import MeshView
from gateway.model import Endpoint
from gateway.proxy.snapshot import Snapshot

UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

# gRFC A90: beyond this List answers RESOURCE_EXHAUSTED.
MAX_LISTED: Final = 100
# Each watcher looks once a POLL_S: a thousand of them cost well under a percent of a core.
MAX_WATCHERS: Final = 1000
# A connection that fails or heals makes no new snapshot, so watchers look for themselves this often (seconds).
POLL_S: Final = 1.0


class MeshHealth:
    """Who is serving, from the newest view and snapshot. No I/O.

    ``own`` are the gRPC services that the gateway itself answers; they share the status of ``""``.
    """

    def __init__(self, view: Callable[[], MeshView], snapshot: Callable[[], Snapshot], own: Collection[str]) -> None:
        self._view = view
        self._snapshot = snapshot
        self._own = frozenset(own)
        self._index: dict[str, list[Endpoint]] = {}
        self._indexed_view: MeshView | None = None
        self._indexed_snapshot: Snapshot | None = None
        self.draining = False

    def status(self, name: str) -> int | None:
        """SERVING or NOT_SERVING, None for a name that nobody knows."""
        if not name or name in self._own:
            return self._gateway()
        endpoints = self._names().get(name)
        if endpoints is None:
            return None
        available = not self.draining and any(endpoint.available() for endpoint in endpoints)
        return SERVING if available else NOT_SERVING

    def statuses(self) -> dict[str, int]:
        """The status of every name: the gateway, its own services, the mesh's services and what they declare."""
        found: dict[str, int] = {}
        for name in ("", *self._own, *self._names()):
            status = self.status(name)
            if status is not None:
                found[name] = status
        return found

    def _gateway(self) -> int:
        return SERVING if self._snapshot().synced and not self.draining else NOT_SERVING

    def _names(self) -> dict[str, list[Endpoint]]:
        """Every known name with its endpoints that take calls; rebuilt when the mesh changed."""
        view, snapshot = self._view(), self._snapshot()
        if view is not self._indexed_view or snapshot is not self._indexed_snapshot:
            self._index = _index(view, snapshot)
            self._indexed_view, self._indexed_snapshot = view, snapshot
        return self._index


def _index(view: MeshView, snapshot: Snapshot) -> dict[str, list[Endpoint]]:
    endpoints: dict[tuple[str, str], list[Endpoint]] = {}
    for target in snapshot.targets.values():
        for endpoint in target.endpoints:
            endpoints.setdefault((endpoint.service, endpoint.instance_id), []).append(endpoint)
    names: dict[str, list[Endpoint]] = {service: [] for service in view.known_services}
    # Also what services without an instance declared while they had one.
    for declared in (*snapshot.methods, *snapshot.ambiguous):
        names.setdefault(declared.decode(), [])
    for instance in view.instances:
        takes_calls = instance.ready and not instance.draining
        for name in (instance.service, *instance.grpc_services):
            known = names.setdefault(name, [])
            if takes_calls:
                known.extend(endpoints.get((instance.service, instance.instance_id), []))
    return names


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Check, Watch and List over MeshHealth. Written anew because the packaged servicer has no List."""

    def __init__(self, health: MeshHealth, changed: Signal, poll: float = POLL_S) -> None:
        self._health = health
        self._changed = changed
        self._poll = poll
        self._watchers = 0

    async def Check(self, request: Any, context: aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802
        """The status of one name; NOT_FOUND for an unknown one."""
        status = self._health.status(request.service)
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"No service {request.service!r} is known here, by its registered name or by a declared gRPC name.",
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:  # noqa: N802
        """The status of one name, now and whenever it changes; SERVICE_UNKNOWN while nobody knows it."""
        if self._watchers >= MAX_WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"There are {MAX_WATCHERS} health watchers already; use Check."
            )
        self._watchers += 1
        try:
            sent: int | None = None
            while True:
                ticket = self._changed.ticket()
                status = self._health.status(request.service)
                if status is None:
                    status = UNKNOWN
                if status != sent:
                    yield health_pb2.HealthCheckResponse(status=status)
                    sent = status
                await self._changed.wait(ticket, self._poll)
        finally:
            self._watchers -= 1

    async def List(self, request: Any, context: aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802
        """The status of every name, if there are at most 100."""
        statuses = self._health.statuses()
        if len(statuses) > MAX_LISTED:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"There are {len(statuses)} names, more than the {MAX_LISTED} that List may answer; use Check.",
            )
        # The package has it; its type stubs lag behind.
        response = health_pb2.HealthListResponse()  # type: ignore[attr-defined]
        for name, status in statuses.items():
            response.statuses[name].status = status
        return response
