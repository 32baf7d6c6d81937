"""Both directions of HPACK against the ``hpack`` package, over many blocks that share one table."""

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from gateway.http2 import huffman
from gateway.http2.hpack import Decoder, Encoder, HpackError
from gateway.model import Field

# Few enough to be repeated, and of sizes that evict from small tables.
NAMES = st.sampled_from(
    [b":path", b":status", b"te", b"content-type", b"traceparent", b"date", b"x-a", b"x-b", b"x" * 90]
)
VALUES = st.one_of(
    st.sampled_from([b"", b"0", b"200", b"trailers", b"application/grpc", b"v" * 120, b"w" * 2100]),
    st.binary(max_size=24),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12)
TABLE_SIZES = st.lists(st.sampled_from([0, 31, 64, 200, 1000, 4095, 4096, 10000]), max_size=3)
STEPS = st.lists(st.tuples(TABLE_SIZES, FIELDS), min_size=1, max_size=12)

Step = tuple[list[int], list[tuple[bytes, bytes, bool]]]


@given(STEPS)
def test_the_peer_reads_what_we_write(steps: list[Step]) -> None:
    encoder = Encoder()
    peer = hpack.Decoder(max_header_list_size=1 << 20)
    for sizes, fields in steps:
        for size in sizes:
            encoder.set_max_table_size(size)
            peer.max_allowed_table_size = size
        block = encoder.encode([Field(name, value, never) for name, value, never in fields])
        got = list(peer.decode(block, raw=True))
        assert got == [(name, value) for name, value, never in fields]
        assert [not header.indexable for header in got] == [never for name, value, never in fields]


@given(STEPS, st.booleans())
def test_we_read_what_the_peer_writes(steps: list[Step], coded: bool) -> None:
    decoder = Decoder(10000, 1 << 20)
    peer = hpack.Encoder()
    for sizes, fields in steps:
        for size in sizes:
            decoder.set_max_table_size(size)
        # The peer's encoder forgets a change when the same size is set twice, and does not leave out a size between
        # the smallest and the last, as RFC 7541 section 4.2 wants.
        for size in [min(sizes), sizes[-1]] if sizes else []:
            if size != peer.header_table_size:
                peer.header_table_size = size
        got = decoder.decode(peer.encode(fields, huffman=coded))
        assert [(field.name, field.value) for field in got] == [(name, value) for name, value, never in fields]
        assert decoder.list_size == sum(len(name) + len(value) + 32 for name, value, never in fields)


@given(STEPS)
def test_a_relay_hands_on_the_same_fields(steps: list[Step]) -> None:
    source, into, out_of, sink = hpack.Encoder(), Decoder(4096, 1 << 20), Encoder(), hpack.Decoder(1 << 20)
    for _sizes, fields in steps:
        block = out_of.encode(into.decode(source.encode(fields)))
        assert list(sink.decode(block, raw=True)) == [(name, value) for name, value, never in fields]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_fields_or_an_hpack_error(blocks: list[bytes]) -> None:
    decoder = Decoder(4096, 2000)
    for block in blocks:
        try:
            fields = decoder.decode(block)
        except HpackError:
            return
        assert sum(field.size for field in fields) <= 2000
        assert decoder.oversized == (decoder.list_size > 2000)


@given(st.binary(max_size=400))
def test_huffman_round_trip(text: bytes) -> None:
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert huffman.decode(coded, 0, len(coded)) == text


@given(st.binary(max_size=40))
def test_huffman_accepts_only_what_encodes_back(data: bytes) -> None:
    try:
        text = huffman.decode(data, 0, len(data))
    except HpackError:
        return
    assert HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text) == data
