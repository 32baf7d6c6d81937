"""The decoder: what it refuses, what it marks, and what it bounds."""

import time
import tracemalloc

import hpack
import pytest

from gateway.http2.hpack import Decoder, HpackError
from gateway.model import Field


def decoder(table: int = 4096, limit: int = 65536) -> Decoder:
    return Decoder(table, limit)


def literal(name: bytes, value: bytes, first: int = 0x00) -> bytes:
    """A field by value, both strings shorter than 127 bytes."""
    return bytes([first, len(name)]) + name + bytes([len(value)]) + value


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([first | value])
    out = [first | limit]
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def pairs(fields: list[Field]) -> list[tuple[bytes, bytes]]:
    return [(field.name, field.value) for field in fields]


REFUSED = {
    "index 0": (b"\x80", "refers to entry 0"),
    "index beyond an empty table": (b"\xbe", "refers to entry 62"),
    "name index beyond an empty table": (b"\x7e\x01a", "refers to entry 62"),
    "index of 32 bits": (integer(0xFFFFFFFF, 7, 0x80), "refers to entry 4294967295"),
    "index above 32 bits": (integer(0x100000000, 7, 0x80), "above 32 bits"),
    "integer cut off": (b"\xff\x80", "cut off"),
    "integer without its continuation": (b"\xff", "cut off"),
    "integer padded with zeros": (b"\xff" + b"\x80" * 5 + b"\x00", "above 32 bits"),
    "1000 continuation bytes": (b"\xff" + b"\x80" * 1000 + b"\x00", "above 32 bits"),
    "1000 continuation bytes of ones": (b"\x7f" + b"\xff" * 1000, "above 32 bits"),
    "no string where the name should be": (b"\x40", "where a string should begin"),
    "no string where the value should be": (b"\x40\x01a", "where a string should begin"),
    "name past the end": (b"\x40\x05abc", "past the end"),
    "value past the end": (b"\x40\x01a\x02b", "past the end"),
    "string of 2 GiB": (b"\x40" + integer(2**31, 7) + b"abc", "past the end"),
    "string of 4 GiB": (b"\x40" + integer(2**32 - 1, 7) + b"abc", "past the end"),
    "Huffman padding of zeros": (b"\x40\x81\x00\x00", "7 bits of ones"),
    "Huffman padding of 8 bits": (b"\x40\x82\x1f\xff\x00", "7 bits of ones"),
    "Huffman EOS": (b"\x40\x84\xff\xff\xff\xff\x00", "end-of-string"),
    "size update above the limit": (integer(4097, 5, 0x20), "exceeds the limit"),
    "size update after a field": (b"\x82\x20", "after the first field"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    block, reason = REFUSED[case]
    with pytest.raises(HpackError, match=reason):
        decoder().decode(block)


def test_size_updates_at_the_start() -> None:
    peer = decoder()
    peer.decode(literal(b"a", b"b", 0x40))
    assert pairs(peer.decode(b"\xbe")) == [(b"a", b"b")]
    assert pairs(peer.decode(b"\x20" + integer(4096, 5, 0x20) + b"\x82")) == [(b":method", b"GET")]
    with pytest.raises(HpackError, match="refers to entry 62"):
        peer.decode(b"\xbe")


def test_a_lowered_limit_demands_a_size_update() -> None:
    peer = decoder()
    peer.set_max_table_size(100)
    with pytest.raises(HpackError, match="at most 100 bytes is missing"):
        peer.decode(b"\x82")


def test_a_lowered_limit_demands_an_update_that_is_low_enough() -> None:
    peer = decoder()
    peer.set_max_table_size(100)
    peer.set_max_table_size(4096)
    with pytest.raises(HpackError, match="at most 100 bytes is missing"):
        peer.decode(integer(101, 5, 0x20) + integer(100, 5, 0x20) + b"\x82")
    peer = decoder()
    peer.set_max_table_size(100)
    peer.set_max_table_size(4096)
    assert pairs(peer.decode(integer(100, 5, 0x20) + integer(4096, 5, 0x20) + b"\x82")) == [(b":method", b"GET")]
    assert pairs(peer.decode(b"\x82")) == [(b":method", b"GET")]


def test_a_limit_above_what_the_peer_uses_demands_nothing() -> None:
    peer = decoder()
    peer.decode(integer(50, 5, 0x20))
    peer.set_max_table_size(100)
    assert pairs(peer.decode(b"\x82")) == [(b":method", b"GET")]
    with pytest.raises(HpackError, match="exceeds the limit of 100"):
        peer.decode(integer(101, 5, 0x20))


def test_a_raised_limit_is_used_only_once_the_peer_says_so() -> None:
    peer = decoder(65536)
    big = b"v" * 4000
    block = b"\x40\x01a" + integer(4000, 7) + big + b"\x40\x01b" + integer(4000, 7) + big
    peer.decode(block)
    with pytest.raises(HpackError, match="refers to entry 63"):
        peer.decode(b"\xbf")
    peer = decoder(65536)
    peer.decode(integer(65536, 5, 0x20) + block)
    assert peer.decode(b"\xbf")[0].name == b"a"


def test_an_entry_larger_than_the_table_empties_it() -> None:
    peer = decoder()
    peer.decode(literal(b"a", b"b", 0x40))
    assert len(peer.decode(b"\x40\x01a" + integer(5000, 7) + b"v" * 5000)) == 1
    with pytest.raises(HpackError, match="the table has 61"):
        peer.decode(b"\xbe")


def test_a_name_may_come_from_the_entry_it_evicts() -> None:
    peer = decoder()
    peer.decode(integer(40, 5, 0x20) + literal(b"name", b"1234", 0x40))
    assert pairs(peer.decode(b"\x7e\x044321")) == [(b"name", b"4321")]
    assert pairs(peer.decode(b"\xbe")) == [(b"name", b"4321")]


def test_references_are_the_same_object() -> None:
    peer = decoder()
    (stored,) = peer.decode(literal(b"name", b"value", 0x40))
    again, static = peer.decode(b"\xbe\x82")
    assert again is stored
    assert peer.decode(b"\x82")[0] is static


MALFORMED = [
    (b"", b"v"),
    (b":", b"v"),
    (b"Name", b"v"),
    (b"na me", b"v"),
    (b"na:me", b"v"),
    (b"::path", b"v"),
    (b"name\x00", b"v"),
    (b"na\x7fme", b"v"),
    (b"na\xc3\xa9", b"v"),
    (b"na(me", b"v"),
    (b"name", b"a\rb"),
    (b"name", b"a\nb"),
    (b"name", b"a\x00b"),
    (b"name", b"\x00"),
    (b"name", b" a"),
    (b"name", b"\ta"),
    (b"name", b"a "),
    (b"name", b"a\t"),
    (b"name", b" "),
]
WELL_FORMED = [
    (b":path", b"/a"),
    (b"grpc-status", b"0"),
    (b"!#$%&'*+-.^_`|~09az", b"v"),
    (b"name", b""),
    (b"name", b"a b\tc"),
    (b"name", b"\x01\x0b\x0c\x1f\x7f\xff"),
]


@pytest.mark.parametrize("first", [0x00, 0x10, 0x40])
@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_malformed_fields_are_marked(name: bytes, value: bytes, first: int) -> None:
    peer = decoder()
    (field,) = peer.decode(literal(name, value, first))
    assert field.malformed
    if first == 0x40:
        assert peer.decode(b"\xbe")[0].malformed


@pytest.mark.parametrize(("name", "value"), WELL_FORMED)
def test_well_formed_fields_are_not_marked(name: bytes, value: bytes) -> None:
    assert not decoder().decode(literal(name, value))[0].malformed


@pytest.mark.parametrize(("name", "value"), MALFORMED[1:])
def test_malformed_fields_are_marked_in_huffman_code_too(name: bytes, value: bytes) -> None:
    block = hpack.Encoder().encode([(name, value)])
    assert decoder().decode(block)[0].malformed


def test_a_bad_name_stays_bad_by_reference_and_a_bad_value_does_not() -> None:
    peer = decoder()
    peer.decode(literal(b"Bad", b"v", 0x40))
    assert peer.decode(b"\x7e\x01w")[0].malformed
    peer.decode(literal(b"good", b" v", 0x40))
    assert not peer.decode(b"\x7e\x01w")[0].malformed


def test_a_bomb_is_counted_whole_and_stored_up_to_the_limit() -> None:
    peer = decoder(limit=65536)
    entry = b"\x40\x01a" + integer(3900, 7) + b"v" * 3900
    peer.decode(entry)
    tracemalloc.start()
    fields = peer.decode(b"\xbe" * 4000)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peer.oversized
    assert peer.list_size == 4000 * 3933
    assert len(fields) == 65536 // 3933
    assert used < 16384
    assert pairs(peer.decode(b"\x82")) == [(b":method", b"GET")]
    assert not peer.oversized
    assert peer.list_size == 42


def test_a_list_at_the_limit_is_not_oversized() -> None:
    peer = decoder(limit=84)
    assert len(peer.decode(b"\x82\x82")) == 2
    assert not peer.oversized
    assert len(peer.decode(b"\x82\x82\x82")) == 2
    assert peer.oversized


def test_nothing_is_delivered_after_the_limit_even_if_it_would_fit() -> None:
    peer = decoder(limit=100)
    assert len(peer.decode(b"\x82" + literal(b"name", b"v" * 60) + b"\x82")) == 1


def test_an_oversized_block_still_moves_the_table() -> None:
    peer = decoder(limit=100)
    peer.decode(literal(b"a", b"v" * 100, 0x40) + literal(b"kept", b"value", 0x40))
    assert peer.oversized
    assert pairs(peer.decode(b"\xbe")) == [(b"kept", b"value")]


def test_time_is_linear_in_huffman_input() -> None:
    text = b"\n" * 3000  # 30 bits each, the slowest code
    block = hpack.Encoder().encode([(b"a", text, True)])
    started = time.process_time()
    assert decoder().decode(block)[0].value == text
    assert time.process_time() - started < 1.0
