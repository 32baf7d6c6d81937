"""When a failed attempt may be tried again. Only transparent retries: those that no server can have seen twice."""

from typing import Final

from gateway.errors import RETRY_FREELY, RETRY_ONCE, GatewayError

# Bytes of a request that are kept for another attempt; a call that sent more than this is not retried. gRPC's own
# buffers are of that order (256 KiB a call in C-core), and a proxy holds many calls.
MAX_HELD_BYTES: Final = 65_536


class TransparentRetry:
    """The rule of gRFC A6: as often as needed while a call never left, once if the server's library refused it."""

    def __init__(self) -> None:
        self.refused = False

    def allows(self, error: GatewayError) -> bool:
        """Whether to try again now. The caller checks that nothing was answered and the request is still held."""
        if error.retry == RETRY_FREELY:
            return True
        if error.retry == RETRY_ONCE and not self.refused:
            self.refused = True
            return True
        return False
