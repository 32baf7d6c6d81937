"""What can go wrong between a client and the registry, as exceptions that carry the registry's own reason."""

from collections.abc import Iterable, Sequence
from typing import Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY: Final = "grpc-status-details-bin"

# Another process holds the name: registering again would only start a fight over it.
TAKEN: Final = frozenset({"SUPERSEDED", "INSTANCE_LIVE"})
# The lease is gone, the right to register is not.
LOST: Final = frozenset({"LEASE_UNKNOWN", "LEASE_EXPIRED", "UNKNOWN_EPOCH"})

# Statuses that trying again may cure: the registry is away, busy, full, or was restarted under the call.
_PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_NO_ANSWER: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class RegistryError(Exception):
    """A call to the registry failed.

    ``code`` is the gRPC status (None when no status came), ``reason`` the registry's google.rpc.ErrorInfo reason (empty
    without one), ``retry_after`` the seconds that the registry asks to wait before the next try.
    """

    def __init__(
        self, message: str, code: grpc.StatusCode | None = None, reason: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same call may work later."""
        return self.code is None or self.code in _PASSING

    @property
    def lost(self) -> bool:
        """Whether the registry no longer knows the lease, so that registering again is the answer."""
        return self.reason in LOST or (self.code is grpc.StatusCode.NOT_FOUND and not self.reason)

    @property
    def taken(self) -> bool:
        """Whether another process holds the instance's name."""
        return self.reason in TAKEN


class RegistrationError(RegistryError):
    """The instance could not be registered, or a change to it was refused."""


class SupersededError(RegistrationError):
    """Another process took the instance's name; this one must not register it again."""


def from_rpc(error: grpc.aio.AioRpcError, action: str, address: str) -> RegistryError:
    """The error of one call in words: ``action`` is what was tried ("register web-1"), ``address`` whom it asked."""
    code = error.code()
    text = (error.details() or "").strip()
    reason, retry_after = _details(error)
    if code in _NO_ANSWER and not reason:
        # gRPC's text leads there through all it tried; the cause is at its end.
        cause = text.rpartition("remote host: ")[2] or code.name
        message = f"cannot {action}: the registry at {address} is not reachable ({cause})"
    else:
        tag = f"{code.name}/{reason}" if reason else code.name
        message = f"cannot {action}: the registry at {address} says {tag}: {text or 'no explanation'}"
    return RegistryError(message, code, reason, retry_after)


def _details(error: grpc.aio.AioRpcError) -> tuple[str, float]:
    """The ErrorInfo reason and the RetryInfo seconds of a call's rich status; empty and 0 without them."""
    reason = ""
    retry_after = 0.0
    for detail in _unpack(error.trailing_metadata() or ()):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            reason = detail.reason
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
    return reason, retry_after


def _unpack(metadata: Iterable[tuple[str, str | bytes]]) -> Sequence[Message]:
    """The known messages in ``grpc-status-details-bin``; what cannot be read is left out."""
    found: list[Message] = []
    for key, value in metadata:
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
            for packed in status.details:
                for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
                    if packed.Is(kind.DESCRIPTOR):
                        found.append(kind.FromString(packed.value))
        except DecodeError:
            continue
    return found
