"""The worked examples of RFC 7541, Appendix C."""

import pytest

from gateway.http2.hpack import Decoder, Encoder
from gateway.http2.hpack_table import STATIC_FIELDS
from gateway.model import Field

Pairs = list[tuple[bytes, bytes]]

REQUESTS: list[Pairs] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
REQUEST_BLOCKS = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
REQUEST_BLOCKS_HUFFMAN = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]

DATE_1 = b"Mon, 21 Oct 2013 20:13:21 GMT"
DATE_2 = b"Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
LOCATION = (b"location", b"https://www.example.com")
RESPONSES: list[Pairs] = [
    [(b":status", b"302"), (b"cache-control", b"private"), (b"date", DATE_1), LOCATION],
    [(b":status", b"307"), (b"cache-control", b"private"), (b"date", DATE_1), LOCATION],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", DATE_2),
        LOCATION,
        (b"content-encoding", b"gzip"),
        (b"set-cookie", COOKIE),
    ],
]
RESPONSE_BLOCKS = [
    "4803333032580770726976617465611d" + DATE_1.hex() + "6e17" + LOCATION[1].hex(),
    "4803333037c1c0bf",
    "88c1611d" + DATE_2.hex() + "c05a04677a69707738" + COOKIE.hex(),
]
RESPONSE_BLOCKS_HUFFMAN = [
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab"
        "77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
    ),
]


def pairs(fields: list[Field]) -> Pairs:
    return [(field.name, field.value) for field in fields]


@pytest.mark.parametrize("blocks", [REQUEST_BLOCKS, REQUEST_BLOCKS_HUFFMAN])
def test_requests_on_one_connection(blocks: list[str]) -> None:
    decoder = Decoder(4096, 65536)
    assert [pairs(decoder.decode(bytes.fromhex(block))) for block in blocks] == REQUESTS


@pytest.mark.parametrize("blocks", [RESPONSE_BLOCKS, RESPONSE_BLOCKS_HUFFMAN])
def test_responses_evicting_from_a_table_of_256_bytes(blocks: list[str]) -> None:
    decoder = Decoder(256, 65536)
    assert [pairs(decoder.decode(bytes.fromhex(block))) for block in blocks] == RESPONSES


def test_requests_are_encoded_as_in_the_rfc() -> None:
    encoder = Encoder()
    blocks = [encoder.encode([Field(name, value) for name, value in request]).hex() for request in REQUESTS]
    assert blocks == REQUEST_BLOCKS


def test_literal_without_indexing() -> None:
    decoder = Decoder(4096, 65536)
    assert pairs(decoder.decode(bytes.fromhex("040c2f73616d706c652f70617468"))) == [(b":path", b"/sample/path")]
    assert not decoder.decode(bytes.fromhex("040c2f73616d706c652f70617468"))[0].never_indexed


def test_literal_never_indexed() -> None:
    block = bytes.fromhex("100870617373776f726406736563726574")
    (field,) = Decoder(4096, 65536).decode(block)
    assert (field.name, field.value, field.never_indexed) == (b"password", b"secret", True)
    assert Encoder().encode([field]) == block


def test_the_static_table_has_61_entries() -> None:
    decoder = Decoder(4096, 65536)
    fields = decoder.decode(bytes(0x80 | index for index in range(1, 62)))
    assert len(fields) == 61
    assert fields == STATIC_FIELDS[1:]
