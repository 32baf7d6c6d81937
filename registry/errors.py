"""Why the registry refuses something, as values: a reason for programs, a sentence for people.

Knows nothing of gRPC; ``status.py`` holds the one map from reasons to gRPC codes.
"""

import enum

MAX_SHOWN_CHARACTERS = 80  # of somebody's input in a message: gRPC's limit for all trailers together is 8 KiB


class Reason(enum.Enum):
    """The ``reason`` of google.rpc.ErrorInfo, in the domain "meshway.registry"."""

    INVALID_FIELD = "INVALID_FIELD"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    ADDRESS_NOT_REACHABLE = "ADDRESS_NOT_REACHABLE"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    LEASE_UNKNOWN = "LEASE_UNKNOWN"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    SUPERSEDED = "SUPERSEDED"
    INSTANCE_LIVE = "INSTANCE_LIVE"
    REVISION_CONFLICT = "REVISION_CONFLICT"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
    DESCRIPTOR_UNKNOWN = "DESCRIPTOR_UNKNOWN"
    REVISION_NOT_REACHED = "REVISION_NOT_REACHED"
    QUOTA = "QUOTA"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    STORE_FULL = "STORE_FULL"
    NOT_READY = "NOT_READY"
    INTERNAL = "INTERNAL"


class RegistryError(Exception):
    """A refusal. ``message`` says what happened, to what, and what to do next.

    ``field`` is the path of the bad field, as "instance.addresses[0]"; ``retry_after_ms`` is set where trying again
    can help; ``metadata`` is for programs, beside the reason.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        field: str = "",
        retry_after_ms: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.metadata = metadata or {}


class ListenError(Exception):
    """The registry cannot listen where it was told to; the text is one sentence that names the address."""


def shown(text: str) -> str:
    """What somebody sent, quoted and short: refusals travel in trailers, which have little room."""
    return repr(text) if len(text) <= MAX_SHOWN_CHARACTERS else repr(text[:MAX_SHOWN_CHARACTERS]) + "..."


def invalid(field: str, message: str) -> RegistryError:
    """The refusal of one field of a request; the message is "FIELD: what is wrong"."""
    return RegistryError(Reason.INVALID_FIELD, f"{field}: {message}", field=field)
