"""Writing of header blocks (RFC 7541).

What ends up in ``BytesWriter.append`` is ``int`` here, not ``i64``: mypyc has a direct call for ``int`` only.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from gateway.http2.hpack_table import (
    DEFAULT_TABLE_SIZE,
    FIRST_DYNAMIC,
    INDEXED,
    LITERAL,
    LITERAL_INDEXED,
    LITERAL_NEVER_INDEXED,
    SIZE_UPDATE,
    STATIC_FIELDS,
)
from gateway.model import Field

# What we use of the table that a peer offers, in bytes. A peer may offer 4 GiB; what it buys stops growing at a few
# dozen fields, and the memory is ours.
MAX_ENCODER_TABLE: Final = DEFAULT_TABLE_SIZE


class _Name:
    """What an encoder knows of one field name.

    ``values`` maps each value that stands in a table to its number: below FIRST_DYNAMIC a static index, else the
    count of insertions at which it came. ``newest`` is the number of the latest insertion with this name that is still
    in the table, else 0.
    """

    def __init__(self, static_index: int, indexable: bool) -> None:
        self.static_index: Final = static_index  # 0 when the static table lacks the name
        self.indexable: Final = indexable  # False: always a literal that no table keeps
        self.values: dict[bytes, int] = {}
        self.newest = 0


class _Entry:
    """One entry of an encoder's dynamic table."""

    def __init__(self, field: Field, known: _Name) -> None:
        self.field: Final = field
        self.known: Final = known


def _known_names() -> dict[bytes, _Name]:
    """The names that every encoder starts with: those of the static table, and those never worth an entry."""
    # Their values are new with each call: an entry would never be referred to, and push out one that is.
    per_call = (
        b"traceparent tracestate baggage b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-request-id grpc-trace-bin "
        b"grpc-timeout grpc-message grpc-status-details-bin content-length date"
    ).split()
    names: dict[bytes, _Name] = {}
    for index, field in enumerate(STATIC_FIELDS):
        if index == 0:
            continue
        known = names.get(field.name)
        if known is None:
            known = _Name(index, field.name not in per_call)
            names[field.name] = known
        known.values[field.value] = index
    for name in per_call:
        if name not in names:
            names[name] = _Name(0, False)
    return names


_KNOWN_NAMES: Final = _known_names()


class Encoder:
    """Turns the field lists of one connection, in order, into header blocks.

    Policy. A field in a table becomes its index. A field that its sender marked as never indexed stays a literal of
    that kind, as an intermediary must keep it (RFC 7541 section 6.2.3); no name is special beside that wish, because a
    relay cannot know better than the sender what is secret. Everything else enters the dynamic table, except names
    whose values change with each call, and fields that would take more than half of the table.

    Strings go out as they are, never Huffman-coded: on the literals that remain (ids, lengths, time stamps) the code
    saves a few bytes a call, and costs more time than everything else here.
    """

    def __init__(self) -> None:
        self._names: dict[bytes, _Name] = {}  # seen on this connection: static ones, and those in the dynamic table
        self._entries: list[_Entry] = []  # oldest first
        self._size: i64 = 0
        self._capacity: i64 = DEFAULT_TABLE_SIZE
        self._next: int = FIRST_DYNAMIC  # the number of the next insertion
        self._wanted: i64 = DEFAULT_TABLE_SIZE  # the capacity after the next block
        self._lowest: i64 = DEFAULT_TABLE_SIZE  # the smallest capacity asked for since the last block

    def set_max_table_size(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes; takes effect with the next block."""
        self._wanted = min(size, MAX_ENCODER_TABLE)
        self._lowest = min(self._lowest, self._wanted)

    def encode(self, fields: list[Field]) -> bytes:
        """One complete header block. It must be sent, and before any later one: the tables move with it."""
        out = BytesWriter()
        if self._lowest < self._capacity or self._wanted != self._capacity:
            self._write_size_updates(out)
        for field in fields:
            known = self._names.get(field.name)
            if known is None:
                known = self._adopt(field.name)
            if known is not None and known.indexable and not field.never_indexed:
                number = known.values.get(field.value, 0)
                if number != 0:
                    index = number if number < FIRST_DYNAMIC else FIRST_DYNAMIC - 1 + self._next - number
                    if index < 0x7F:
                        out.append(INDEXED | index)
                    else:
                        _write_integer(out, INDEXED, 0x7F, index)
                    continue
            self._write_literal(out, field, known)
        return out.getvalue()

    def _adopt(self, name: bytes) -> _Name | None:
        """Takes over what is known of a name from the start, when this connection first uses it."""
        shared = _KNOWN_NAMES.get(name)
        if shared is None:
            return None
        known = shared
        if shared.indexable:  # it will change with this connection's table; the others never do
            known = _Name(shared.static_index, True)
            known.values = shared.values.copy()
        self._names[name] = known
        return known

    def _write_literal(self, out: BytesWriter, field: Field, known: _Name | None) -> None:
        """A field by value, its name by index where it has one (RFC 7541 section 6.2)."""
        index = 0
        if known is not None:
            index = known.static_index
            if index == 0 and known.newest != 0:
                index = FIRST_DYNAMIC - 1 + self._next - known.newest
        if field.never_indexed:
            _write_integer(out, LITERAL_NEVER_INDEXED, 0x0F, index)
        elif (known is None or known.indexable) and field.size * 2 <= self._capacity:
            _write_integer(out, LITERAL_INDEXED, 0x3F, index)
            self._insert(field, known)
        else:
            _write_integer(out, LITERAL, 0x0F, index)
        if index == 0:
            _write_string(out, field.name)
        _write_string(out, field.value)

    def _write_size_updates(self, out: BytesWriter) -> None:
        """RFC 7541 section 4.2: the smallest size since the last block, then the final one."""
        if self._lowest < self._capacity and self._lowest < self._wanted:
            self._evict(self._lowest)
            _write_integer(out, SIZE_UPDATE, 0x1F, self._lowest)
        self._evict(self._wanted)
        _write_integer(out, SIZE_UPDATE, 0x1F, self._wanted)
        self._capacity = self._wanted
        self._lowest = self._wanted

    def _insert(self, field: Field, known: _Name | None) -> None:
        """Puts a field that fits into the table; it is not there yet."""
        if known is None:
            known = _Name(0, True)
        self._evict(self._capacity - field.size)
        if known.static_index == 0 and known.newest == 0:  # new, or making room dropped its last entry
            self._names[field.name] = known
        number = self._next
        self._next = number + 1
        known.values[field.value] = number
        known.newest = number
        self._entries.append(_Entry(field, known))
        self._size += field.size

    def _evict(self, room: i64) -> None:
        """Drops the oldest entries until the rest is at most ``room`` bytes."""
        while self._size > room:
            entry = self._entries.pop(0)
            known = entry.known
            self._size -= entry.field.size
            number = known.values.pop(entry.field.value)
            if number == known.newest:
                known.newest = 0
                if known.static_index == 0:
                    del self._names[entry.field.name]


def _write_integer(out: BytesWriter, pattern: int, mask: int, value: int) -> None:
    """An integer behind the bits of ``pattern``; ``mask`` is its prefix's largest number (RFC 7541 section 5.1)."""
    if value < mask:
        out.append(pattern | value)
        return
    out.append(pattern | mask)
    value -= mask
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)


def _write_string(out: BytesWriter, text: bytes) -> None:
    _write_integer(out, 0x00, 0x7F, len(text))
    out.write(text)
