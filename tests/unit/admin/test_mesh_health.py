"""Who is SERVING, rule by rule; without a server."""

import asyncio

from gateway.admin.health import NOT_SERVING, SERVING, MeshHealth
from gateway.admin.pages import endpoints_page, readyz_page
from gateway.admin.signal import Signal
from gateway.balancing.picker import Picker
from gateway.control.view import InstanceView, MeshView
from gateway.model import READY, TRANSIENT_FAILURE, Endpoint
from gateway.proxy.snapshot import Snapshot, Target
from gateway.routing.table import RouteTable


class Mesh:
    """A view and a snapshot that a test changes."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.view = MeshView(synced=True)
        self.snapshot = Snapshot(0, RouteTable([]), {}, {}, {}, False)
        self.health = MeshHealth(lambda: self.view, lambda: self.snapshot, ["own.Service"])

    def set(
        self,
        *instances: InstanceView,
        known: frozenset[str] = frozenset(),
        methods: dict[bytes, str] | None = None,
        ambiguous: dict[bytes, list[str]] | None = None,
        synced: bool = True,
    ) -> None:
        targets: dict[str, Target] = {}
        for one in instances:
            if one.ready and not one.draining and one.weight:
                endpoint = self.endpoints.setdefault(
                    one.instance_id, Endpoint(one.service, one.instance_id, one.addresses[0], {})
                )
                target = targets.setdefault(one.service, Target(one.service, one.service, Picker(), []))
                target.endpoints.append(endpoint)
        self.view = MeshView(instances, known, synced)
        self.snapshot = Snapshot(1, RouteTable([]), targets, methods or {}, ambiguous or {}, synced)


def instance(number: int = 1, service: str = "cart", **changes: object) -> InstanceView:
    values: dict[str, object] = {"grpc_services": ("shop.Cart",), **changes}
    return InstanceView(service, f"{service}-{number}", (f"127.0.0.1:{number}",), **values)  # type: ignore[arg-type]


def test_gateway_serves_once_it_has_a_view() -> None:
    mesh = Mesh()
    assert mesh.health.status("") == mesh.health.status("own.Service") == NOT_SERVING
    mesh.set()
    assert mesh.health.status("") == mesh.health.status("own.Service") == SERVING


def test_service_by_both_names() -> None:
    mesh = Mesh()
    mesh.set(instance())
    assert mesh.health.status("cart") == mesh.health.status("shop.Cart") == SERVING
    assert mesh.health.status("shop.Orders") is None


def test_no_instance_that_takes_calls() -> None:
    mesh = Mesh()
    for changes in ({"ready": False}, {"draining": True}, {"weight": 0}):
        mesh.set(instance(**changes))
        assert mesh.health.status("cart") == NOT_SERVING, changes
    mesh.set(known=frozenset({"cart"}), methods={b"shop.Cart": "cart"}, ambiguous={b"shop.Twice": ["a", "b"]})
    for name in ("cart", "shop.Cart", "shop.Twice"):
        assert mesh.health.status(name) == NOT_SERVING


def test_endpoint_states_count_without_a_new_snapshot() -> None:
    mesh = Mesh()
    mesh.set(instance(1), instance(2))
    mesh.endpoints["cart-1"].state = TRANSIENT_FAILURE
    assert mesh.health.status("cart") == SERVING
    mesh.endpoints["cart-2"].state = TRANSIENT_FAILURE
    assert mesh.health.status("shop.Cart") == NOT_SERVING
    mesh.endpoints["cart-2"].state = READY
    assert mesh.health.status("shop.Cart") == SERVING


def test_draining_sticks() -> None:
    mesh = Mesh()
    mesh.set(instance())
    mesh.health.draining = True
    mesh.set(instance(), instance(2))
    assert set(mesh.health.statuses().values()) == {NOT_SERVING}
    assert mesh.health.status("nobody") is None


def test_statuses_name_everything() -> None:
    mesh = Mesh()
    mesh.set(instance(), instance(1, "orders", grpc_services=(), ready=False))
    assert mesh.health.statuses() == {
        "": SERVING,
        "own.Service": SERVING,
        "cart": SERVING,
        "shop.Cart": SERVING,
        "orders": NOT_SERVING,
    }


def test_pages() -> None:
    mesh = Mesh()
    mesh.set(instance(2), instance(1))
    mesh.endpoints["cart-1"].last_error = "refused"
    mesh.endpoints["cart-1"].state = TRANSIENT_FAILURE
    page = endpoints_page(mesh.snapshot)
    assert [row["instance"] for row in page] == ["cart-1", "cart-2"]
    assert page[0] == {
        "service": "cart",
        "instance": "cart-1",
        "address": "127.0.0.1:1",
        "state": "TRANSIENT_FAILURE",
        "active": 0,
        "started": 0,
        "failed": 0,
        "last_error": "refused",
    }
    assert readyz_page(mesh.snapshot, draining=False).status == 200
    assert readyz_page(mesh.snapshot, draining=True).status == 503
    assert readyz_page(Mesh().snapshot, draining=False).status == 503


async def test_signal_misses_nothing() -> None:
    signal = Signal()
    ticket = signal.ticket()
    signal.notify()
    async with asyncio.timeout(1):
        await signal.wait(ticket, 60)
    waiters = [asyncio.create_task(signal.wait(signal.ticket(), 60)) for _number in range(3)]
    await asyncio.sleep(0)
    signal.notify()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiters)
    await signal.wait(signal.ticket(), 0.001)
