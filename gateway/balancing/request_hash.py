"""The hash of a request, from what the config says to hash on (gRFC A42)."""

from typing import Final

import xxhash
from mypy_extensions import mypyc_attr

from gateway.model import Request

MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0, as an unsigned 64-bit number."""
    value: int = xxhash.xxh64_intdigest(data)
    return value


@mypyc_attr(allow_interpreted_subclasses=True)
class HashSource:
    """One part of a request to hash. ``terminal``: when a hash exists after it, later sources are not looked at.

    ``word`` names the source, for people and to tell two of them apart.
    """

    def __init__(self, word: str, terminal: bool) -> None:
        self.word: Final = word
        self.terminal: Final = terminal

    def value(self, request: Request) -> bytes | None:
        """The bytes to hash, or None when the request has no such part."""
        raise NotImplementedError


class MetadataSource(HashSource):
    """All values of one metadata name, joined by commas, as A42 says. Binary metadata (``-bin``) is not hashed."""

    def __init__(self, name: str, terminal: bool = False) -> None:
        lowered = name.lower()
        if lowered.endswith("-bin"):
            raise ValueError(f"{lowered!r} is binary metadata, which cannot be hashed on: choose a text name")
        super().__init__(f"metadata {lowered}", terminal)
        self._name = lowered.encode()

    def value(self, request: Request) -> bytes | None:
        """The bytes to hash, or None when the request has no such part."""
        values = request.values(self._name)
        if not values:
            return None
        return values[0] if len(values) == 1 else b",".join(values)


class AuthoritySource(HashSource):
    """The request's authority, port and all."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__("authority", terminal)

    def value(self, request: Request) -> bytes | None:
        """The bytes to hash, or None when the request has no such part."""
        return request.authority or None


class SourceAddressSource(HashSource):
    """The caller's IP address, without the port: one caller keeps its endpoint over reconnects."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__("source_address", terminal)

    def value(self, request: Request) -> bytes | None:
        """The bytes to hash, or None when the request has no such part."""
        return request.peer.encode() if request.peer else None


def request_hash(sources: list[HashSource], request: Request) -> int | None:
    """The combined hash ``rotl(h, 1) ^ part`` over all sources that the request has; None when it has none.

    The rotation keeps two equal parts from cancelling each other out.
    """
    combined = 0
    found = False
    for source in sources:
        value = source.value(request)
        if value is not None:
            part = xxh64(value)
            # Numbers of 64 bits are dear: none is rotated for the usual single source.
            combined = (((combined << 1) | (combined >> 63)) & MASK_64) ^ part if found else part
            found = True
        if found and source.terminal:
            break
    return combined if found else None
