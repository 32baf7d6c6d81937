"""The one writer of snapshots: joins what the mesh has with what the config says, builds all, swaps one reference.

Nothing here is on the request path. Live things outlive a snapshot: an endpoint is the same object for as long as its
instance is listed, and a balancer for as long as its target keeps its policy.
"""

from collections.abc import Iterable
from random import Random

from gateway.balancing.picker import Balancer
from gateway.balancing.service import PICK_FIRST, PolicySpec, make_balancer
from gateway.control.view import InstanceView, MeshView
from gateway.model import Endpoint
from gateway.proxy.snapshot import Snapshot, SnapshotSink, Target
from gateway.routing.table import RouteTable
from gateway.routing.target import TargetSpec

# The target of the gateway's own services; the registry cannot claim it.
OWN_TARGET = "meshway.gateway"

DEFAULT_POLICY = PolicySpec()

EndpointKey = tuple[str, str, int, str]
Member = tuple[Endpoint, int]


class Publisher:
    """Builds a snapshot from each new view of the mesh and each new set of routes, and gives it to the sink.

    ``own`` is the endpoint of the gateway's own services, which are named by their full gRPC names in
    ``own_services``: those names always lead there, whoever else declares them.
    """

    def __init__(self, sink: SnapshotSink, rng: Random, own: Endpoint | None, own_services: list[str]) -> None:
        self._sink = sink
        self._rng = rng
        self._own_target: Target | None = None
        if own is not None:
            picker = make_balancer(PolicySpec(PICK_FIRST), rng).update([own])
            self._own_target = Target(OWN_TARGET, OWN_TARGET, picker, [own])
        self._own_services = frozenset(own_services)
        self._table = RouteTable([])
        self._specs: dict[str, TargetSpec] = {}
        self._policies: dict[str, PolicySpec] = {}
        self._configured = ""
        self._view = MeshView()
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._slots: dict[str, _Slot] = {}
        self._declared: dict[str, frozenset[str]] = {}
        self._current = self._build(0)

    @property
    def current(self) -> Snapshot:
        """The snapshot in force; generation 0, with the own services alone, before the first was published."""
        return self._current

    def configure(self, table: RouteTable, targets: Iterable[TargetSpec], policies: dict[str, PolicySpec]) -> None:
        """New routes, every target that they name, and the balancing policy of each service that has one of its own.

        A service without a policy is balanced by round_robin. The same input again publishes nothing.
        """
        specs = {spec.key: spec for spec in targets}
        lines = [f"{name}: {policies[name].identity}" for name in sorted(policies)]
        configured = "\n".join(["configured", table.identity, *sorted(specs), *lines])
        if configured == self._configured:
            return
        self._configured = configured
        self._table = table
        self._specs = specs
        self._policies = dict(policies)
        self._publish([])

    def update_view(self, view: MeshView) -> None:
        """A new view of the mesh. One that says the same, in whatever order, publishes nothing."""
        view = _in_order(view)
        if view == self._view:
            return
        self._view = view
        self._remember_declarations()
        self._publish(self._refresh_endpoints())

    def _publish(self, removed: list[Endpoint]) -> None:
        self._current = self._build(self._current.generation + 1)
        self._sink.swap(self._current, removed)

    def _refresh_endpoints(self) -> list[Endpoint]:
        """Bring the endpoints in line with the view; returns those that it no longer lists."""
        before = self._endpoints
        self._endpoints = {}
        for instance in self._view.instances:
            key = _key(instance)
            endpoint = before.pop(key, None)
            if endpoint is None:
                endpoint = Endpoint(
                    instance.service,
                    instance.instance_id,
                    instance.addresses[0],
                    dict(instance.labels),
                    instance.weight,
                    instance.incarnation,
                )
            else:
                endpoint.labels = dict(instance.labels)
                endpoint.weight = instance.weight
            self._endpoints[key] = endpoint
        return list(before.values())

    def _remember_declarations(self) -> None:
        """Which gRPC services each service declares: those of its instances, or what its last ones declared.

        So a call for a service that lost its last instance is told UNAVAILABLE, not that its method is unknown.
        Bounded by the services that the source knows.
        """
        now: dict[str, set[str]] = {}
        for instance in self._view.instances:
            now.setdefault(instance.service, set()).update(instance.grpc_services)
        for name in self._view.known_services - now.keys():
            now[name] = set(self._declared.get(name, ()))
        self._declared = {name: frozenset(declared) for name, declared in now.items()}

    def _build(self, generation: int) -> Snapshot:
        eligible = self._eligible()
        specs = {name: TargetSpec(name, {}) for name in self._declared}
        specs.update(self._specs)
        # Slots of targets that are gone are dropped with their balancers.
        slots: dict[str, _Slot] = {}
        targets: dict[str, Target] = {}
        for key, spec in specs.items():
            members = [endpoint for endpoint in eligible.get(spec.service, []) if spec.selects(endpoint.labels)]
            slots[key] = self._slot(spec)
            targets[key] = slots[key].target(members)
        self._slots = slots
        methods, ambiguous = self._methods()
        if self._own_target is not None:
            targets[OWN_TARGET] = self._own_target
        return Snapshot(generation, self._table, targets, methods, ambiguous, self._view.synced)

    def _eligible(self) -> dict[str, list[Endpoint]]:
        """The endpoints of each service that new calls may go to."""
        eligible: dict[str, list[Endpoint]] = {}
        for instance in self._view.instances:
            if instance.ready and not instance.draining and instance.weight > 0:
                eligible.setdefault(instance.service, []).append(self._endpoints[_key(instance)])
        return eligible

    def _slot(self, spec: TargetSpec) -> "_Slot":
        """The lasting part of a target: the one it had, or a new one when its policy is another now."""
        policy = self._policies.get(spec.service, DEFAULT_POLICY)
        slot = self._slots.get(spec.key)
        if slot is None or slot.policy != policy.identity:
            slot = _Slot(spec, policy.identity, make_balancer(policy, self._rng))
        return slot

    def _methods(self) -> tuple[dict[bytes, str], dict[bytes, list[str]]]:
        """The zero-config routing, and the gRPC services that more than one service declares."""
        claims: dict[str, list[str]] = {}
        for service in sorted(self._declared):
            for declared in self._declared[service]:
                claims.setdefault(declared, []).append(service)
        own = self._own_services if self._own_target is not None else frozenset()
        methods: dict[bytes, str] = {}
        ambiguous: dict[bytes, list[str]] = {}
        for declared, services in claims.items():
            if declared in own:
                continue
            if len(services) == 1:
                methods[declared.encode()] = services[0]
            else:
                ambiguous[declared.encode()] = services
        for name in own:
            methods[name.encode()] = OWN_TARGET
        return methods, ambiguous


class _Slot:
    """What a target keeps over snapshots: its balancer, and its last picker while nothing about its members changed."""

    def __init__(self, spec: TargetSpec, policy: str, balancer: Balancer) -> None:
        self.policy = policy
        self._spec = spec
        self._balancer = balancer
        self._members: list[Member] = []
        self._target: Target | None = None

    def target(self, endpoints: list[Endpoint]) -> Target:
        """The target over these endpoints. Weights are compared too, for the endpoint objects stay the same."""
        members = [(endpoint, endpoint.weight) for endpoint in endpoints]
        if self._target is None or not _same(members, self._members):
            self._members = members
            picker = self._balancer.update(endpoints)
            self._target = Target(self._spec.key, self._spec.service, picker, endpoints)
        return self._target


def _same(left: list[Member], right: list[Member]) -> bool:
    if len(left) != len(right):
        return False
    return all(a is b and weight == other for (a, weight), (b, other) in zip(left, right, strict=True))


def _in_order(view: MeshView) -> MeshView:
    """The view without the order of announcement, without instances that cannot be dialled or that take our name."""
    usable = [instance for instance in view.instances if instance.addresses and instance.service != OWN_TARGET]
    # One instance may be listed by several sources: the last word counts.
    distinct = {_key(instance): instance for instance in usable}
    return MeshView(
        tuple(distinct[key] for key in sorted(distinct)),
        view.known_services - {OWN_TARGET},
        view.synced,
    )


def _key(instance: InstanceView) -> EndpointKey:
    """The identity of an endpoint; the preferred address is the one dialled."""
    return instance.service, instance.instance_id, instance.incarnation, instance.addresses[0]
