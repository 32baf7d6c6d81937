"""What the operator's endpoint shows of a snapshot, as plain values."""

from gateway.admin.http import Reply
from gateway.model import STATE_NAMES, Endpoint
from gateway.proxy.snapshot import Snapshot


def endpoints_page(snapshot: Snapshot) -> list[dict[str, object]]:
    """Each endpoint once, by service and instance, with its state and counters."""
    found: dict[int, Endpoint] = {}
    for target in snapshot.targets.values():
        for endpoint in target.endpoints:
            found[id(endpoint)] = endpoint
    return [
        {
            "service": endpoint.service,
            "instance": endpoint.instance_id,
            "address": endpoint.address,
            "state": STATE_NAMES[endpoint.state],
            "active": int(endpoint.active),
            "started": int(endpoint.started),
            "failed": int(endpoint.failed),
            "last_error": endpoint.last_error,
        }
        for endpoint in sorted(found.values(), key=lambda one: (one.service, one.instance_id, one.address))
    ]


def healthz_page() -> str:
    """The process answers: that is all that liveness means."""
    return "ok"


def readyz_page(snapshot: Snapshot, draining: bool) -> Reply:
    """200 when new calls are welcome: a first view of the mesh has come, and no drain has begun."""
    if draining:
        return Reply(503, "draining: open calls finish, new ones should go elsewhere")
    if not snapshot.synced:
        return Reply(503, "waiting for a first view of the mesh from the registry")
    return Reply(200, "ready")
