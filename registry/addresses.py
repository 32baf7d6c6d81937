"""What an instance may give as its address: "host:port" or "[v6]:port", of a host that gateways can reach."""

import ipaddress
import re
from urllib.parse import unquote

from registry.errors import Reason, RegistryError, invalid, shown

_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]:([0-9]{1,5})")
_PLAIN = re.compile(r"([^\[\]:/\s]+):([0-9]{1,5})")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
MAX_HOST_CHARACTERS = 253  # RFC 1035 section 2.3.4, less the root label

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_address(address: str, field: str, peer_is_local: bool) -> None:
    """Refuse what is ill-formed, and what only the sender's own machine could reach unless the sender is on ours."""
    host, port = _split(address, field)
    if not 1 <= port <= 65535:
        raise invalid(field, f"{shown(address)} has port {port}; it must be 1 to 65535")
    ip = _ip(host)
    if ip is None:
        _check_host_name(host, address, field)
    elif ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        raise invalid(field, f"{shown(address)} is no address of one machine; give the one that gateways shall dial")
    if not peer_is_local and _is_local(host, ip):
        raise RegistryError(
            Reason.ADDRESS_NOT_REACHABLE,
            f"{field}: {shown(address)} can be reached from the sender's own machine only; give one that gateways "
            "can dial, or start the registry so that it allows this",
            field=field,
        )


def is_local_peer(peer: str) -> bool:
    """Whether a call (grpc's ``context.peer()``) comes from the registry's own machine."""
    if peer.startswith("unix"):
        return True
    scheme, _, rest = unquote(peer).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return False
    ip = _ip(rest.rpartition(":")[0].strip("[]"))
    return ip is not None and ip.is_loopback


def _split(address: str, field: str) -> tuple[str, int]:
    match = _BRACKETED.fullmatch(address) or _PLAIN.fullmatch(address)
    if match is None:
        raise invalid(field, f'{shown(address)} is not "host:port" or "[v6]:port"')
    return match.group(1), int(match.group(2))


def _ip(host: str) -> IpAddress | None:
    """The address, an IPv4-mapped one (RFC 4291 section 2.5.5.2) as the IPv4 address that it means."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _is_local(host: str, ip: IpAddress | None) -> bool:
    if ip is not None:
        return ip.is_loopback or ip.is_link_local
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3


def _check_host_name(host: str, address: str, field: str) -> None:
    labels = host.removesuffix(".").split(".")
    # A name whose last label is a number is a mistyped IPv4 address (RFC 1123 section 2.1).
    well_formed = all(_HOST_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    if not well_formed or len(host) > MAX_HOST_CHARACTERS:
        raise invalid(field, f"{shown(address)} names no valid host")
