"""Decoding of Huffman-coded strings (RFC 7541 section 5.2 and Appendix B).

The code is canonical: codes of one length are consecutive numbers, given in order of symbol, and each length goes on
where the shorter one stopped. So the symbols by length say everything, and the tables are derived from them at import.

Symbols of up to 8 bits (every letter, digit and usual mark) take one look into a table of 256; the longer ones are
found by comparing a 30-bit window with the first code after each length, which is at most 17 steps for at least 10
bits: time is linear in the input. There is no encoder: see ``hpack.Encoder``.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from gateway.http2.hpack_table import HpackError

SHORT_BITS: Final = 8  # codes up to this length are looked up directly
LONGEST: Final = 30  # bits of the longest code
_WINDOW: Final = 0x3FFFFFFF  # that many ones
_KEPT: Final = 0xFFFFFFFFFFFF  # more bits than are ever undecoded: a window, and the byte that completes it
EOS: Final = 256  # the end-of-string symbol, which a string must not contain

SYMBOLS_BY_LENGTH: Final = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5"
    b"\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
    b"\xdc\xf9",
    30: b"\n\r\x16",  # and EOS
}


def code_table() -> list[tuple[int, int]]:
    """The code of each symbol and its length in bits, for symbols 0 to 255 and EOS."""
    table = [(0, 0)] * 257
    code = 0
    previous = 0
    for length, symbols in SYMBOLS_BY_LENGTH.items():
        code <<= length - previous
        previous = length
        for symbol in symbols:
            table[symbol] = (code, length)
            code += 1
    table[EOS] = (code, previous)
    return table


def _short_table(want_length: bool) -> bytes:
    """For each byte: the symbol whose code begins it, or that code's length (0 when the code is longer than a byte)."""
    found = bytearray(1 << SHORT_BITS)
    for symbol, (code, length) in enumerate(code_table()):
        if length <= SHORT_BITS:
            first = code << (SHORT_BITS - length)
            for index in range(first, first + (1 << (SHORT_BITS - length))):
                found[index] = length if want_length else symbol
    return bytes(found)


def _long_lengths() -> list[int]:
    return [length for length in SYMBOLS_BY_LENGTH if length > SHORT_BITS]


def _long_ends() -> list[int]:
    """For each long length: the first 30-bit window that is beyond its codes."""
    ends = []
    codes = code_table()
    for length in _long_lengths():
        last = codes[EOS if length == LONGEST else SYMBOLS_BY_LENGTH[length][-1]][0]
        ends.append((last + 1) << (LONGEST - length))
    return ends


def _long_symbols() -> list[list[int]]:
    """For each long length: its symbols in order of code."""
    symbols = [list(SYMBOLS_BY_LENGTH[length]) for length in _long_lengths()]
    symbols[-1].append(EOS)
    return symbols


_SHORT_LENGTHS: Final = _short_table(True)
_SHORT_SYMBOLS: Final = _short_table(False)
_LONG_LENGTHS: Final = _long_lengths()
_LONG_ENDS: Final = _long_ends()
_LONG_SYMBOLS: Final = _long_symbols()


def _long_rank(window: i64) -> i64:
    """Which of the long lengths the code at the front of this 30-bit window has."""
    rank: i64 = 0
    while window >= _LONG_ENDS[rank]:
        rank += 1
    return rank


def _long_symbol(window: i64, rank: i64) -> int:
    """The symbol at the front of a window, its length being known; counted back from the end of that length's codes."""
    back: i64 = (_LONG_ENDS[rank] - 1 - window) >> (LONGEST - _LONG_LENGTHS[rank])
    symbols = _LONG_SYMBOLS[rank]
    return symbols[len(symbols) - 1 - back]


def decode(data: bytes, start: i64, end: i64) -> bytes:
    """The string coded by ``data[start:end]``.

    Raises HpackError for padding that is longer than 7 bits or is not all ones, and for an EOS inside the string.
    """
    out = BytesWriter()
    # No number that stands here literally is ever shifted to the left: compiled, it would be a 32-bit C int.
    bits: i64 = 0  # the last bits read from the input
    count: i64 = 0  # how many of them are not decoded yet, at most 37
    while True:
        while count < LONGEST and start < end:
            bits = ((bits << 8) | data[start]) & _KEPT
            count += 8
            start += 1
        # Past the end the window is filled with ones, as padding is: that can only make a code which is longer than
        # what is left, never a shorter one.
        if count >= LONGEST:
            window = (bits >> (count - LONGEST)) & _WINDOW
        else:
            window = ((bits << (LONGEST - count)) & _WINDOW) | (_WINDOW >> count)
        length: i64 = _SHORT_LENGTHS[window >> (LONGEST - SHORT_BITS)]
        if length != 0:
            if length > count:
                break
            out.append(_SHORT_SYMBOLS[window >> (LONGEST - SHORT_BITS)])
        else:
            rank = _long_rank(window)
            length = _LONG_LENGTHS[rank]
            if length > count:
                break
            symbol = _long_symbol(window, rank)
            if symbol == EOS:
                raise HpackError("A Huffman-coded string contains the end-of-string symbol.")
            out.append(symbol)
        count -= length
    if count > 7 or ~bits & (0x7F >> (7 - count)) != 0:
        raise HpackError("A Huffman-coded string does not end in at most 7 bits of ones.")
    return out.getvalue()
