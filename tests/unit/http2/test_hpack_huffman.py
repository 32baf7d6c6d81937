"""The Huffman code, with the ``hpack`` package as judge."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from gateway.http2 import huffman
from gateway.http2.hpack import HpackError

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def decode(data: bytes) -> bytes:
    return huffman.decode(data, 0, len(data))


def test_the_derived_code_is_that_of_the_rfc() -> None:
    assert huffman.code_table() == list(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))


def test_every_symbol_alone_and_after_every_length_of_code() -> None:
    one_of_each_length = b"0 :&!+#\x00^<\\\x80\x99\x81\x01\t\xc7\xc0\xcb\x02\n"
    for symbol in range(256):
        for before in one_of_each_length:
            text = bytes([symbol, before, symbol])
            assert decode(ENCODER.encode(text)) == text


def test_all_symbols_in_both_orders() -> None:
    text = bytes(range(256)) + bytes(reversed(range(256)))
    assert decode(ENCODER.encode(text)) == text


def test_a_slice_of_a_larger_block() -> None:
    data = ENCODER.encode(b"trailers")
    assert huffman.decode(b"\xff\xff" + data + b"\x00\x00", 2, 2 + len(data)) == b"trailers"


def test_an_empty_string() -> None:
    assert decode(b"") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",  # 8 bits of padding
        b"\x1f\xff",  # 'a', 11 bits of padding
        b"\x07\xff\xff",  # '0', then more padding than a byte
        b"\x18",  # 'a', padded with zeros
        b"\x1e",  # 'a', padded with 110
        b"\x1b",  # 'a', padded with 011
        b"\xff\xfe",  # a code cut in the middle
        b"\xff\xff\xff",  # 24 bits of EOS
        b"\xff\xff\xff\xff",  # EOS itself
        b"\xff\xff\xff\xfc\x00",  # EOS, then more
        b"\x1f\xff\xff\xff\xff\x00",  # 'a', EOS, then more
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(HpackError, match="Huffman"):
        decode(data)
