"""From a Config to what each part takes: plain values and objects, with nothing of the config left in them."""

from gateway.balancing.service import PolicySpec
from gateway.config.model import Config, RouteConfig
from gateway.routing.route import Backend, Route
from gateway.routing.table import RouteTable
from gateway.routing.target import TargetSpec


def route_table(config: Config) -> RouteTable:
    """All routes, ready to match."""
    return RouteTable([route(entry) for entry in config.routes])


def route(entry: RouteConfig) -> Route:
    """One route."""
    matches = [match.match() for match in entry.matches]
    backends = [Backend(backend.target().key, backend.weight) for backend in entry.backends]
    return Route(entry.name, list(entry.hostnames), matches, backends)


def target_specs(config: Config) -> list[TargetSpec]:
    """Every service and subset that a route names, each once."""
    found: dict[str, TargetSpec] = {}
    for entry in config.routes:
        for backend in entry.backends:
            target = backend.target()
            found[target.key] = target
    return list(found.values())


def policy_specs(config: Config) -> dict[str, PolicySpec]:
    """The balancing policy of each service that has one of its own."""
    return {name: service.balancer.spec() for name, service in config.services.items() if service.balancer is not None}
