"""What both directions of HPACK (RFC 7541) share: static table, first bytes of the representations, and the error.

Knows nothing of how a block is read or written.
"""

from typing import Final

from gateway.model import Field

# SETTINGS_HEADER_TABLE_SIZE before a peer says otherwise (RFC 9113 section 6.5.2), in bytes.
DEFAULT_TABLE_SIZE: Final = 4096

# Index of the newest entry of the dynamic table, right after the static ones (RFC 7541 section 2.3.3).
FIRST_DYNAMIC: Final = 62

# First bytes of the representations (RFC 7541 section 6); the bits below begin an integer.
INDEXED: Final = 0x80
LITERAL_INDEXED: Final = 0x40
SIZE_UPDATE: Final = 0x20
LITERAL_NEVER_INDEXED: Final = 0x10
LITERAL: Final = 0x00


class HpackError(Exception):
    """A header block that cannot be decoded; its text is one sentence.

    The table is then out of step with the peer's, so the connection must end with COMPRESSION_ERROR (RFC 9113
    section 4.3).
    """


def _static_fields() -> list[Field]:
    """RFC 7541 Appendix A. Entry 0 only keeps the list's positions equal to the indexes; nothing may refer to it."""
    fields = [
        Field(b"", b""),
        Field(b":authority", b""),
        Field(b":method", b"GET"),
        Field(b":method", b"POST"),
        Field(b":path", b"/"),
        Field(b":path", b"/index.html"),
        Field(b":scheme", b"http"),
        Field(b":scheme", b"https"),
    ]
    for status in (b"200", b"204", b"206", b"304", b"400", b"404", b"500"):
        fields.append(Field(b":status", status))
    fields.append(Field(b"accept-charset", b""))
    fields.append(Field(b"accept-encoding", b"gzip, deflate"))
    names = (
        b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
        b"content-disposition content-encoding content-language content-length content-location content-range "
        b"content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
        b"if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range "
        b"referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary "
        b"via www-authenticate"
    )
    for name in names.split():
        fields.append(Field(name, b""))
    return fields


STATIC_FIELDS: Final = _static_fields()
