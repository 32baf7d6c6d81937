"""The encoder: which representation a field gets, and what is kept of it."""

import hpack

from gateway.http2.hpack import Decoder, Encoder
from gateway.model import Field


def encode(encoder: Encoder, *fields: tuple[bytes, bytes]) -> bytes:
    return encoder.encode([Field(name, value) for name, value in fields])


def test_a_static_field_is_one_byte() -> None:
    assert encode(Encoder(), (b":method", b"POST"), (b":scheme", b"http"), (b":status", b"200")) == b"\x83\x86\x88"


def test_a_new_field_enters_the_table_and_becomes_an_index() -> None:
    encoder = Encoder()
    assert encode(encoder, (b"te", b"trailers")) == b"\x40\x02te\x08trailers"
    assert encode(encoder, (b"te", b"trailers")) == b"\xbe"
    assert encode(encoder, (b"te", b"other")) == b"\x7e\x05other"
    assert encode(encoder, (b"te", b"trailers"), (b"te", b"other")) == b"\xbf\xbe"


def test_a_static_name_is_an_index() -> None:
    assert encode(Encoder(), (b"content-type", b"application/grpc")) == b"\x5f\x10application/grpc"


def test_values_that_change_with_each_call_stay_out_of_the_table() -> None:
    encoder = Encoder()
    for name in (b"traceparent", b"grpc-timeout", b"x-request-id", b"grpc-message"):
        block = bytes([0, len(name)]) + name + b"\x011"
        assert encode(encoder, (name, b"1")) == block
        assert encode(encoder, (name, b"1")) == block
    assert encode(encoder, (b"content-length", b"5")) == b"\x0f\x0d\x015"
    assert encode(encoder, (b"te", b"trailers")) == b"\x40\x02te\x08trailers"
    assert encode(encoder, (b"te", b"trailers")) == b"\xbe"


def test_a_field_over_half_the_table_stays_out() -> None:
    encoder = Encoder()
    assert encode(encoder, (b"a", b"v" * (2048 - 33)))[0] == 0x40
    assert encode(encoder, (b"b", b"v" * (2049 - 33)))[0] == 0x00


def test_never_indexed_is_kept_even_where_the_table_has_it() -> None:
    encoder = Encoder()
    encode(encoder, (b"secret", b"1"))
    assert encoder.encode([Field(b"secret", b"1", True)]) == b"\x1f\x2f\x011"
    assert encoder.encode([Field(b":method", b"GET", True)]) == b"\x12\x03GET"
    assert encoder.encode([Field(b"other", b"1", True)]) == b"\x10\x05other\x011"
    assert encode(encoder, (b"other", b"1"))[0] == 0x40


def test_no_name_is_secret_by_itself() -> None:
    encoder = Encoder()
    encode(encoder, (b"authorization", b"Bearer x"))
    assert encode(encoder, (b"authorization", b"Bearer x")) == b"\xbe"


def test_indexes_beyond_one_byte() -> None:
    encoder = Encoder()
    decoder = Decoder(4096, 65536)
    fields = [Field(b"n%d" % number, b"") for number in range(100)]
    decoder.decode(encoder.encode(fields))
    block = encoder.encode(fields)
    assert len(block) == 65 + 2 * 35  # 62 to 126 in one byte each, 127 to 161 in two
    assert [field.name for field in decoder.decode(block)] == [field.name for field in fields]


def test_a_name_whose_last_entry_makes_room_for_its_next_value() -> None:
    encoder = Encoder()
    decoder = Decoder(4096, 65536)
    encoder.set_max_table_size(80)
    for value in (b"1" * 8, b"2" * 8, b"2" * 8, b"1" * 8):
        (field,) = decoder.decode(encode(encoder, (b"a", value)))
        assert (field.name, field.value) == (b"a", value)
        (field,) = decoder.decode(encode(encoder, (b"b", value)))
        assert (field.name, field.value) == (b"b", value)


def test_size_updates() -> None:
    encoder = Encoder()
    encoder.set_max_table_size(4096)
    assert encode(encoder, (b"te", b"trailers"))[0] == 0x40
    encoder.set_max_table_size(30)
    assert encode(encoder, (b":method", b"GET")) == b"\x3e\x82"
    encoder.set_max_table_size(10)
    encoder.set_max_table_size(20)
    assert encode(encoder, (b":method", b"GET")) == b"\x2a\x34\x82"
    encoder.set_max_table_size(25)
    encoder.set_max_table_size(24)
    assert encode(encoder, (b":method", b"GET")) == b"\x38\x82"
    encoder.set_max_table_size(0)
    encoder.set_max_table_size(24)
    assert encode(encoder, (b":method", b"GET")) == b"\x20\x38\x82"
    assert encode(encoder, (b":method", b"GET")) == b"\x82"


def test_a_table_that_shrank_and_grew_back_is_empty() -> None:
    encoder = Encoder()
    encode(encoder, (b"te", b"trailers"))
    encoder.set_max_table_size(0)
    encoder.set_max_table_size(4096)
    assert encode(encoder, (b"te", b"trailers")) == b"\x20\x3f\xe1\x1f\x40\x02te\x08trailers"


def test_a_peer_offering_4_gib_gets_4_kib_used() -> None:
    encoder = Encoder()
    peer = hpack.Decoder()
    encoder.set_max_table_size(2**32 - 1)
    for number in range(2000):
        fields = peer.decode(encode(encoder, (b"x-%d" % number, b"v" * 50)), raw=True)
        assert list(fields) == [(b"x-%d" % number, b"v" * 50)]
    # The oldest entry still referred to is one of the last 4096 / 88.
    assert encode(encoder, (b"x-1999", b"v" * 50)) == b"\xbe"
    assert encode(encoder, (b"x-1954", b"v" * 50)) == b"\xeb"
    assert encode(encoder, (b"x-1953", b"v" * 50))[0] == 0x40
