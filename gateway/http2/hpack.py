"""Header compression (RFC 7541): one Decoder and one Encoder for each connection.

Knows nothing of frames, streams or what the fields mean. Both sides share ``Field`` objects: a field that a peer refers
to by index costs no allocation, and one that a decoder returned can be handed to an encoder as it is.
"""

from gateway.http2.hpack_decoder import Decoder
from gateway.http2.hpack_encoder import Encoder
from gateway.http2.hpack_table import HpackError

__all__ = ["Decoder", "Encoder", "HpackError"]
