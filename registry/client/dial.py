"""Which registry addresses there are, and how a channel to one of them is made."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc.aio
from meshway.registry.v1 import registry_pb2_grpc

DEFAULT_REGISTRY: Final = "127.0.0.1:7500"
MAX_REGISTRIES: Final = 16  # more is a mistake in a list, not a cluster

# The largest answer taken: a snapshot chunk, a long list of services or a descriptor set (1 MiB at registration).
MAX_MESSAGE: Final = 16 * 1024 * 1024

_OPTIONS: Final[list[tuple[str, Any]]] = [
    # Without these two, gRPC would share connections and its own (slow) backoff between all channels of the process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # The time that one connection attempt may take; the default of 20 s would hide the next address for too long.
    ("grpc.min_reconnect_backoff_ms", 3000),
    # A channel that is kept (for single questions) finds a restarted registry within a second.
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # The registry is a neighbour: a proxy meant for the web must not get between.
    ("grpc.enable_http_proxy", 0),
]

# Generated code is untyped; this says once what it is used as.
_make_stub: Callable[[grpc.aio.Channel], Any] = registry_pb2_grpc.RegistryStub


class Addresses:
    """The registry's addresses in turn: ``current`` until ``advance`` goes on to the next, round and round."""

    def __init__(self, registry: str | Sequence[str]) -> None:
        self.all = parse_addresses(registry)
        self._index = 0

    @property
    def current(self) -> str:
        """The address to try now."""
        return self.all[self._index]

    def advance(self) -> None:
        """The current one failed."""
        self._index = (self._index + 1) % len(self.all)

    def __str__(self) -> str:
        return ",".join(self.all)


def parse_addresses(registry: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses in "a:1,b:2" or a list of such; ValueError names the one that is not HOST:PORT."""
    parts = registry.split(",") if isinstance(registry, str) else list(registry)
    found = tuple(part.strip() for part in parts if part.strip())
    if not found:
        raise ValueError("no registry address given: expected HOST:PORT[,HOST:PORT]")
    if len(found) > MAX_REGISTRIES:
        raise ValueError(f"{len(found)} registry addresses given: at most {MAX_REGISTRIES} make sense")
    for address in found:
        split_address(address)
    return found


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of "host:port" or "[v6]:port"; ValueError says what is wrong with it."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"bad address {address!r}: an IPv6 host needs brackets, as in [::1]:7500")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"bad address {address!r}: expected HOST:PORT with a port from 1 to 65535")
    if not _is_host(host):
        raise ValueError(f"bad address {address!r}: {host!r} is no name or address of a host")
    return host, int(port)


def _is_host(host: str) -> bool:
    """Whether a resolver can be asked for it: it takes no empty or overlong label, and answers nothing to a space."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return bool(host) and not any(character.isspace() for character in host)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to one registry address; connects at the first call. The caller closes it."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def make_stub(channel: grpc.aio.Channel) -> Any:
    """The registry's generated stub over this channel."""
    return _make_stub(channel)
