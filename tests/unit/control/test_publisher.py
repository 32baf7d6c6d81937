"""What each snapshot holds, what it keeps from the one before, and what it reports as removed."""

import random
from dataclasses import replace

import pytest

from gateway.balancing.request_hash import MetadataSource
from gateway.balancing.service import PolicySpec
from gateway.control.publisher import OWN_TARGET, Publisher
from gateway.control.view import InstanceView, MeshView
from gateway.model import Endpoint, Request
from gateway.proxy.snapshot import Snapshot, SnapshotSink
from gateway.routing.route import Backend, Match, Route
from gateway.routing.table import RouteTable
from gateway.routing.target import TargetSpec

REQUEST = Request(b"/p.S/M", b"host", [], "10.0.0.1")
OWN = Endpoint("meshway.gateway", "self", "unix:/run/own", {})
OWN_SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]


class Sink(SnapshotSink):
    """Remembers every swap."""

    def __init__(self) -> None:
        self.swaps: list[tuple[Snapshot, list[Endpoint]]] = []

    def swap(self, snapshot: Snapshot, removed: list[Endpoint]) -> None:
        self.swaps.append((snapshot, removed))

    @property
    def removed(self) -> list[str]:
        return [endpoint.instance_id for endpoint in self.swaps[-1][1]]


def instance(service: str, name: str, **changes: object) -> InstanceView:
    port = 7000 + sum(map(ord, name))
    base = InstanceView(service, name, (f"10.0.0.1:{port}",), (f"shop.{service.capitalize()}",))
    return replace(base, **changes)


def view(*instances: InstanceView, known: tuple[str, ...] = (), synced: bool = True) -> MeshView:
    return MeshView(tuple(instances), frozenset(known) | {one.service for one in instances}, synced)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def publisher(sink: Sink) -> Publisher:
    return Publisher(sink, random.Random(5), OWN, OWN_SERVICES)


def ids(snapshot: Snapshot, target: str) -> list[str]:
    return [endpoint.instance_id for endpoint in snapshot.targets[target].endpoints]


def picked(snapshot: Snapshot, target: str, count: int = 12) -> set[str]:
    chosen = [snapshot.targets[target].picker.pick(REQUEST, None) for _ in range(count)]
    return {"" if one is None else one.instance_id for one in chosen}


def table(*targets: str) -> RouteTable:
    return RouteTable([Route("r", [], [Match()], [Backend(target) for target in targets])])


def test_before_anything_is_known(publisher: Publisher, sink: Sink) -> None:
    snapshot = publisher.current
    assert (snapshot.generation, snapshot.synced) == (0, False)
    assert snapshot.methods == {name.encode(): OWN_TARGET for name in OWN_SERVICES}
    assert snapshot.targets[OWN_TARGET].picker.pick(REQUEST, None) is OWN
    assert sink.swaps == []


def test_a_view_becomes_targets_and_methods(publisher: Publisher, sink: Sink) -> None:
    publisher.update_view(view(instance("cart", "b"), instance("cart", "a"), instance("order", "c"), known=("idle",)))
    snapshot = publisher.current
    assert sink.swaps == [(snapshot, [])]
    assert (snapshot.generation, snapshot.synced) == (1, True)
    assert set(snapshot.targets) == {"cart", "order", "idle", OWN_TARGET}
    assert ids(snapshot, "cart") == ["a", "b"]
    assert picked(snapshot, "cart") == {"a", "b"}
    assert picked(snapshot, "idle") == {""}
    assert snapshot.targets["idle"].service == "idle"
    assert snapshot.methods[b"shop.Cart"] == "cart"
    assert snapshot.methods[b"shop.Order"] == "order"
    assert snapshot.ambiguous == {}


def test_identical_input_publishes_nothing(publisher: Publisher, sink: Sink) -> None:
    a, b = instance("cart", "a", labels={"zone": "1"}), instance("cart", "b")
    publisher.update_view(view(a, b))
    publisher.update_view(view(a, b))
    publisher.update_view(view(b, replace(a, labels={"zone": "1"})))
    assert len(sink.swaps) == 1
    publisher.configure(RouteTable([]), [], {})
    publisher.configure(RouteTable([]), [], {})
    assert [snapshot.generation for snapshot, _ in sink.swaps] == [1, 2]
    for _ in range(2):
        publisher.configure(table("cart"), [TargetSpec("cart", {})], {"cart": PolicySpec("pick_first")})
    assert len(sink.swaps) == 3
    publisher.update_view(view(a, b, synced=False))
    assert publisher.current.synced is False


def test_an_endpoint_outlives_snapshots(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a", labels={"zone": "1"})))
    before = publisher.current.targets["cart"].endpoints[0]
    before.active = 3
    publisher.update_view(view(instance("cart", "a", labels={"zone": "2"}, weight=7), instance("cart", "b")))
    after = publisher.current.targets["cart"].endpoints[0]
    assert after is before
    assert (after.active, after.labels, after.weight) == (3, {"zone": "2"}, 7)


@pytest.mark.parametrize("changes", [{"incarnation": 2}, {"addresses": ("10.0.0.9:1", "10.0.0.1:2")}])
def test_another_life_or_address_is_another_endpoint(
    publisher: Publisher, sink: Sink, changes: dict[str, object]
) -> None:
    publisher.update_view(view(instance("cart", "a")))
    before = publisher.current.targets["cart"].endpoints[0]
    publisher.update_view(view(instance("cart", "a", **changes)))
    after = publisher.current.targets["cart"].endpoints[0]
    assert after is not before
    assert sink.swaps[-1][1] == [before]


def test_only_the_preferred_address_counts(publisher: Publisher, sink: Sink) -> None:
    publisher.update_view(view(instance("cart", "a", addresses=("10.0.0.1:1", "10.0.0.2:1"))))
    publisher.update_view(view(instance("cart", "a", addresses=("10.0.0.1:1",))))
    assert publisher.current.targets["cart"].endpoints[0].address == "10.0.0.1:1"
    assert sink.removed == []


@pytest.mark.parametrize("changes", [{"draining": True}, {"ready": False}, {"weight": 0}])
def test_an_instance_that_wants_no_calls_stays_listed(
    publisher: Publisher, sink: Sink, changes: dict[str, object]
) -> None:
    publisher.update_view(view(instance("cart", "a"), instance("cart", "b")))
    before = publisher.current.targets["cart"].endpoints[0]
    publisher.update_view(view(instance("cart", "a", **changes), instance("cart", "b")))
    assert ids(publisher.current, "cart") == ["b"]
    assert picked(publisher.current, "cart") == {"b"}
    assert sink.removed == []
    publisher.update_view(view(instance("cart", "a"), instance("cart", "b")))
    assert publisher.current.targets["cart"].endpoints[0] is before
    publisher.update_view(view(instance("cart", "b")))
    assert sink.swaps[-1][1] == [before]
    publisher.update_view(view(instance("cart", "b"), known=("other",)))
    assert sink.removed == []  # reported once


def test_all_draining_leaves_a_known_service_without_a_pick(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a", draining=True)))
    assert picked(publisher.current, "cart") == {""}
    assert publisher.current.methods[b"shop.Cart"] == "cart"


def test_a_service_that_lost_its_last_instance_keeps_its_methods_while_known(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a")))
    publisher.update_view(view(known=("cart",)))
    assert publisher.current.methods[b"shop.Cart"] == "cart"
    assert picked(publisher.current, "cart") == {""}
    publisher.update_view(view(known=("cart", "more")))
    assert publisher.current.methods[b"shop.Cart"] == "cart"
    publisher.update_view(view(instance("cart", "b", grpc_services=("shop.Basket",))))
    assert b"shop.Cart" not in publisher.current.methods
    publisher.update_view(view())
    assert "cart" not in publisher.current.targets
    assert set(publisher.current.methods.values()) == {OWN_TARGET}


def test_declared_by_two_services_is_declared_by_none(publisher: Publisher) -> None:
    publisher.update_view(
        view(
            instance("order", "x", grpc_services=("shop.Cart", "shop.Order")),
            instance("cart", "a"),
            instance("cart", "b"),
        )
    )
    snapshot = publisher.current
    assert snapshot.ambiguous == {b"shop.Cart": ["cart", "order"]}
    assert b"shop.Cart" not in snapshot.methods
    assert snapshot.methods[b"shop.Order"] == "order"


def test_own_services_are_nobody_elses(publisher: Publisher) -> None:
    declared = ("grpc.health.v1.Health", "shop.Cart")
    publisher.update_view(
        view(
            instance("cart", "a", grpc_services=declared),
            instance("order", "b", grpc_services=declared[:1]),
            instance(OWN_TARGET, "impostor"),
        )
    )
    snapshot = publisher.current
    assert snapshot.methods[b"grpc.health.v1.Health"] == OWN_TARGET
    assert snapshot.methods[b"shop.Cart"] == "cart"
    assert snapshot.ambiguous == {}
    assert snapshot.targets[OWN_TARGET].endpoints == [OWN]


def test_without_an_own_endpoint_instances_answer_for_themselves(sink: Sink) -> None:
    publisher = Publisher(sink, random.Random(5), None, OWN_SERVICES)
    publisher.update_view(view(instance("cart", "a", grpc_services=("grpc.health.v1.Health",))))
    assert publisher.current.methods == {b"grpc.health.v1.Health": "cart"}
    assert OWN_TARGET not in publisher.current.targets


def test_targets_that_routes_name(publisher: Publisher) -> None:
    v2 = TargetSpec("cart", {"version": "v2"})
    absent = TargetSpec("absent", {})
    publisher.configure(table(v2.key, "absent"), [v2, absent], {})
    assert picked(publisher.current, v2.key) == {""}
    assert "cart" not in publisher.current.targets
    publisher.update_view(
        view(instance("cart", "a", labels={"version": "v1"}), instance("cart", "b", labels={"version": "v2", "x": "y"}))
    )
    snapshot = publisher.current
    assert set(snapshot.targets) == {"cart", v2.key, "absent", OWN_TARGET}
    assert ids(snapshot, v2.key) == ["b"]
    assert snapshot.targets[v2.key].service == "cart"
    assert snapshot.targets[v2.key].endpoints[0] is snapshot.targets["cart"].endpoints[1]
    assert picked(snapshot, "absent") == {""}
    matched = snapshot.routes.match(b"/a/b", b"", REQUEST)
    assert matched is not None
    assert matched.name == "r"
    publisher.update_view(view(instance("cart", "a", labels={"version": "v2"}), instance("cart", "b")))
    assert ids(publisher.current, v2.key) == ["a"]
    publisher.configure(RouteTable([]), [], {})
    assert set(publisher.current.targets) == {"cart", OWN_TARGET}


def test_a_picker_is_kept_while_nothing_about_its_endpoints_changed(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a"), instance("order", "b")))
    before = publisher.current.targets
    publisher.update_view(view(instance("cart", "a"), instance("order", "b", weight=2)))
    after = publisher.current.targets
    assert after["cart"].picker is before["cart"].picker
    assert after["order"].picker is not before["order"].picker


def test_a_balancer_lives_as_long_as_its_policy(publisher: Publisher) -> None:
    publisher.configure(table("cart"), [], {"cart": PolicySpec("pick_first")})
    publisher.update_view(view(instance("cart", "b"), instance("cart", "c")))
    assert picked(publisher.current, "cart") == {"b"}
    publisher.update_view(view(instance("cart", "a"), instance("cart", "b")))
    assert picked(publisher.current, "cart") == {"b"}  # sticks, over the update
    publisher.configure(RouteTable([]), [], {"cart": PolicySpec("pick_first")})
    assert picked(publisher.current, "cart") == {"b"}  # and over other routes
    publisher.configure(RouteTable([]), [], {})
    assert picked(publisher.current, "cart") == {"a", "b"}  # round_robin by default


def test_a_subset_is_balanced_by_its_services_policy(publisher: Publisher) -> None:
    v2 = TargetSpec("cart", {"version": "v2"})
    policy = PolicySpec("ring_hash", [MetadataSource("x-user")])
    publisher.configure(table(v2.key), [v2], {"cart": policy})
    labels = {"version": "v2"}
    publisher.update_view(view(*(instance("cart", name, labels=labels) for name in "abc"), instance("cart", "d")))
    first, second = publisher.current.targets[v2.key], publisher.current.targets["cart"]
    assert type(first.picker) is type(second.picker)
    assert ids(publisher.current, v2.key) == ["a", "b", "c"]


def test_an_instance_without_an_address_is_left_out(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a", addresses=()), instance("cart", "b")))
    assert ids(publisher.current, "cart") == ["b"]
    publisher.update_view(view(instance("order", "a", addresses=())))
    assert picked(publisher.current, "order") == {""}


def test_an_instance_listed_twice_is_one_endpoint(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a"), instance("cart", "a", weight=3)))
    endpoints = publisher.current.targets["cart"].endpoints
    assert [endpoint.weight for endpoint in endpoints] == [3]


def test_an_old_snapshot_still_works(publisher: Publisher) -> None:
    publisher.update_view(view(instance("cart", "a")))
    old = publisher.current
    publisher.update_view(view(instance("cart", "b")))
    assert picked(old, "cart") == {"a"}
    assert picked(publisher.current, "cart") == {"b"}
