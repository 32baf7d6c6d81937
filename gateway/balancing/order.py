"""The one order of a service's endpoints: the same in every gateway, whatever order they were announced in."""

from gateway.model import Endpoint

OrderKey = tuple[str, int, str]


def order_key(endpoint: Endpoint) -> OrderKey:
    """Sorts by instance id, then by what tells two lives of one instance apart."""
    return endpoint.instance_id, endpoint.incarnation, endpoint.address


def in_order(endpoints: list[Endpoint]) -> list[Endpoint]:
    """The endpoints that may get calls, in order; weight 0 means none."""
    return sorted([endpoint for endpoint in endpoints if endpoint.weight > 0], key=order_key)


def has(endpoints: list[Endpoint], wanted: Endpoint) -> bool:
    """Whether this very endpoint is listed."""
    for endpoint in endpoints:  # noqa: SIM110 - a generator would cost a call an endpoint
        if endpoint is wanted:
            return True
    return False
