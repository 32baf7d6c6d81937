"""Reading of header blocks (RFC 7541), and the checks of names and values that RFC 9113 section 8.2.1 asks for."""

from typing import Final

from mypy_extensions import i64

from gateway.http2 import huffman
from gateway.http2.hpack_table import (
    DEFAULT_TABLE_SIZE,
    FIRST_DYNAMIC,
    INDEXED,
    LITERAL_INDEXED,
    LITERAL_NEVER_INDEXED,
    SIZE_UPDATE,
    STATIC_FIELDS,
    HpackError,
)
from gateway.model import Field

# The largest integer accepted, and the shift of the last continuation byte that it can need: RFC 7541 section 5.1
# leaves the limit to us, and no index, length or table size reaches 32 bits here. More bytes than that are padding,
# meant to cost time.
MAX_INTEGER: Final = 0xFFFFFFFF
MAX_INTEGER_SHIFT: Final = 28

_HUFFMAN: Final = 0x80  # set in the first byte of a string's length
_COLON: Final = 0x3A
_CR: Final = 0x0D
_LF: Final = 0x0A
_SPACE: Final = 0x20
_TAB: Final = 0x09


def _name_bytes() -> bytes:
    """1 for each byte that a field name may hold: an RFC 9110 token without upper case."""
    allowed = bytearray(256)
    for byte in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz":
        allowed[byte] = 1
    return bytes(allowed)


_NAME_BYTES: Final = _name_bytes()


def _bad_name(name: bytes) -> bool:
    """Whether RFC 9113 section 8.2.1 forbids the name. One leading colon marks a pseudo-header field."""
    length: i64 = len(name)
    i: i64 = 0
    if length > 0 and name[0] == _COLON:
        i = 1
    if i == length:
        return True
    while i < length:
        if _NAME_BYTES[name[i]] == 0:
            return True
        i += 1
    return False


def _bad_value(value: bytes) -> bool:
    """Whether RFC 9113 section 8.2.1 forbids the value: CR, LF or NUL in it, space or tab at either end."""
    length: i64 = len(value)
    if length == 0:
        return False
    byte: i64 = value[0]
    if byte in (_SPACE, _TAB):
        return True
    i: i64 = 0
    while i < length:
        byte = value[i]
        if byte <= _CR and byte in (_CR, _LF, 0):
            return True
        i += 1
    return byte in (_SPACE, _TAB)


class Decoder:
    """Turns the header blocks of one connection, in order, into fields. A block that failed ends the connection.

    ``max_table_size`` is the SETTINGS_HEADER_TABLE_SIZE in force, in bytes; ``max_list_size`` bounds the sum of
    ``Field.size`` that one block may deliver. Every decoded field counts, whatever becomes of it later.
    """

    def __init__(self, max_table_size: int, max_list_size: int) -> None:
        self.oversized = False  # whether the last block was larger than max_list_size
        self.list_size: i64 = 0  # of all fields of the last block, delivered or not
        self._max_list_size: i64 = max_list_size
        self._limit: i64 = max_table_size  # the largest table that we allow
        self._capacity: i64 = min(max_table_size, DEFAULT_TABLE_SIZE)  # what the peer's encoder uses of it
        self._must_shrink_to: i64 = -1  # a size update that is due at the start of the next block; -1 when none is
        self._entries: list[Field] = []  # oldest first
        self._size: i64 = 0
        self._pos: i64 = 0  # where reading the current block goes on

    def set_max_table_size(self, size: int) -> None:
        """Our SETTINGS_HEADER_TABLE_SIZE was acknowledged with this value, in bytes.

        Below what the peer uses now, its next block must begin with a size update (RFC 7541 section 4.2).
        """
        self._limit = size
        if size < self._capacity and (self._must_shrink_to < 0 or size < self._must_shrink_to):
            self._must_shrink_to = size

    def decode(self, block: bytes) -> list[Field]:
        """The fields of one complete header block.

        A list above ``max_list_size`` sets ``oversized`` and stops delivering, but is decoded to its end, or the table
        would fall out of step. Raises HpackError.
        """
        fields: list[Field] = []
        self.oversized = False
        self._pos = 0
        end: i64 = len(block)
        if self._must_shrink_to >= 0 or (end > 0 and block[0] & 0xE0 == SIZE_UPDATE):
            self._read_size_updates(block)
        total: i64 = 0
        while self._pos < end:
            first: i64 = block[self._pos]
            if first >= INDEXED:
                self._pos += 1
                index = first & 0x7F
                if index == 0x7F:
                    index = self._read_integer(block, 0x7F)
                field = STATIC_FIELDS[index] if 0 < index < FIRST_DYNAMIC else self._dynamic(index)
            else:
                field = self._read_literal(block, first)
            total += field.size
            if total <= self._max_list_size:
                fields.append(field)
        self.list_size = total
        self.oversized = total > self._max_list_size
        return fields

    def _dynamic(self, index: i64) -> Field:
        position: i64 = len(self._entries) - 1 - (index - FIRST_DYNAMIC)
        if index < FIRST_DYNAMIC or position < 0:
            raise HpackError(f"A header block refers to entry {index}; the table has {len(self._entries) + 61}.")
        return self._entries[position]

    def _read_literal(self, block: bytes, first: i64) -> Field:
        """A field given by value, with its name given by value or by index (RFC 7541 section 6.2)."""
        incremental = first >= LITERAL_INDEXED
        if not incremental and first >= SIZE_UPDATE:
            raise HpackError("A table size update stands after the first field of a header block.")
        mask: i64 = 0x3F if incremental else 0x0F
        self._pos += 1
        index = first & mask
        if index == 0:
            name = self._read_string(block)
            malformed = _bad_name(name)
        else:
            if index == mask:
                index = self._read_integer(block, mask)
            if index < FIRST_DYNAMIC:
                name = STATIC_FIELDS[index].name
                malformed = False
            else:
                source = self._dynamic(index)
                name = source.name
                malformed = source.malformed and _bad_name(name)
        value = self._read_string(block)
        never_indexed = not incremental and first >= LITERAL_NEVER_INDEXED
        field = Field(name, value, never_indexed, malformed or _bad_value(value))
        if incremental:
            self._insert(field)
        return field

    def _read_string(self, block: bytes) -> bytes:
        """A length, then that many bytes, Huffman-coded or not (RFC 7541 section 5.2)."""
        if self._pos >= len(block):
            raise HpackError("A header block ends where a string should begin.")
        first: i64 = block[self._pos]
        self._pos += 1
        length = first & 0x7F
        if length == 0x7F:
            length = self._read_integer(block, 0x7F)
        start = self._pos
        end = start + length
        if end > len(block):
            raise HpackError(f"A string of {length} bytes goes past the end of its header block.")
        self._pos = end
        if first >= _HUFFMAN:
            return huffman.decode(block, start, end)
        return block[start:end]

    def _read_integer(self, block: bytes, value: i64) -> i64:
        """The rest of an integer whose prefix held its largest number, ``value`` (RFC 7541 section 5.1)."""
        shift: i64 = 0
        end: i64 = len(block)
        while self._pos < end and shift <= MAX_INTEGER_SHIFT:
            byte: i64 = block[self._pos]
            self._pos += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MAX_INTEGER:
                    break
                return value
            shift += 7
        raise HpackError("An integer in a header block is cut off or above 32 bits.")

    def _read_size_updates(self, block: bytes) -> None:
        """The size updates that may begin a block, and the one that must when our limit was lowered."""
        end: i64 = len(block)
        while self._pos < end and block[self._pos] & 0xE0 == SIZE_UPDATE:
            size: i64 = block[self._pos] & 0x1F
            self._pos += 1
            if size == 0x1F:
                size = self._read_integer(block, 0x1F)
            if size > self._limit:
                raise HpackError(f"A table size update to {size} exceeds the limit of {self._limit} bytes.")
            if size <= self._must_shrink_to:
                self._must_shrink_to = -1
            if self._must_shrink_to >= 0:
                break
            self._capacity = size
            self._evict(size)
        if self._must_shrink_to >= 0:
            raise HpackError(f"The table size update to at most {self._must_shrink_to} bytes is missing.")

    def _insert(self, field: Field) -> None:
        """A field larger than the whole table just empties it (RFC 7541 section 4.4)."""
        size = field.size
        if self._size + size > self._capacity:
            self._evict(self._capacity - size)
            if size > self._capacity:
                return
        self._entries.append(field)
        self._size += size

    def _evict(self, room: i64) -> None:
        """Drops the oldest entries until the rest is at most ``room`` bytes, or nothing is left."""
        while self._size > room and self._entries:
            self._size -= self._entries.pop(0).size
