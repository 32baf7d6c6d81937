"""What a request is hashed on, and how several hashes become one (gRFC A42)."""

import pytest
import xxhash

from gateway.balancing.request_hash import (
    AuthoritySource,
    HashSource,
    MetadataSource,
    SourceAddressSource,
    request_hash,
    xxh64,
)
from gateway.model import Field, Request

MASK = 2**64 - 1
USER = xxhash.xxh64_intdigest(b"u1")
HOST = xxhash.xxh64_intdigest(b"shop:80")
PEER = xxhash.xxh64_intdigest(b"10.0.0.1")


def rotl(value: int) -> int:
    return (value << 1) & MASK | value >> 63


def test_xxh64_is_the_published_function() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"abc") == 0x44BC2CF5AD770999


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([], None),
        ([MetadataSource("X-User")], USER),
        ([AuthoritySource()], HOST),
        ([SourceAddressSource()], PEER),
        ([MetadataSource("absent")], None),
        ([MetadataSource("absent"), AuthoritySource()], HOST),
        ([MetadataSource("x-user"), AuthoritySource()], rotl(USER) ^ HOST),
        ([AuthoritySource(), MetadataSource("x-user")], rotl(HOST) ^ USER),
        ([MetadataSource("x-user"), MetadataSource("x-user")], rotl(USER) ^ USER),
        ([MetadataSource("x-user"), AuthoritySource(), SourceAddressSource()], rotl(rotl(USER) ^ HOST) ^ PEER),
        ([MetadataSource("x-user", terminal=True), AuthoritySource()], USER),
        ([MetadataSource("absent", terminal=True), AuthoritySource()], HOST),
        ([AuthoritySource(), MetadataSource("absent", terminal=True), SourceAddressSource()], HOST),
    ],
)
def test_combination(sources: list[HashSource], expected: int | None) -> None:
    request = Request(b"/p.S/M", b"shop:80", [Field(b"x-user", b"u1")], "10.0.0.1")
    assert request_hash(sources, request) == expected


def test_repeated_metadata_is_joined() -> None:
    request = Request(b"/p.S/M", b"", [Field(b"x", b"1"), Field(b"y", b"-"), Field(b"x", b"2")], "")
    assert request_hash([MetadataSource("x")], request) == xxhash.xxh64_intdigest(b"1,2")


def test_what_is_absent() -> None:
    request = Request(b"/p.S/M", b"", [], "")
    assert request_hash([AuthoritySource(), SourceAddressSource()], request) is None


def test_an_empty_value_is_a_value() -> None:
    request = Request(b"/p.S/M", b"", [Field(b"x", b"")], "")
    assert request_hash([MetadataSource("x")], request) == xxh64(b"")


def test_binary_metadata_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a text name"):
        MetadataSource("user-bin")
