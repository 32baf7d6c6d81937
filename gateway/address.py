"""Addresses as text: "host:port", "[v6]:port", "unix:/path"."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ValueError with a sentence for anything else."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not an address of the form host:port or [v6]:port")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The text form of a host and a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unix_path(address: str) -> str | None:
    """The path of a "unix:/path" address, or None for any other."""
    return address[5:] if address.startswith("unix:") else None
