"""The one table of span names, attributes and status rules: OpenTelemetry RPC conventions, schema 1.44.

Turns an Outcome into what its two spans say. Knows nothing of ids, queues or the OpenTelemetry SDK.
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.address import split_address, unix_path
from gateway.errors import DEADLINE_EXCEEDED, INTERNAL, OK, STATUS_NAMES, UNAVAILABLE, UNIMPLEMENTED, UNKNOWN
from gateway.errors import status_name as code_name
from gateway.model import Endpoint, Outcome

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_METHOD_ORIGINAL: Final = "rpc.method_original"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"

# The gateway's own words, where the conventions have none.
MESHWAY_ROUTE: Final = "meshway.route"
MESHWAY_SERVICE: Final = "meshway.service"
MESHWAY_INSTANCE: Final = "meshway.instance"
MESHWAY_ATTEMPTS: Final = "meshway.attempts"
MESHWAY_ERROR_SOURCE: Final = "meshway.error.source"

SYSTEM: Final = "grpc"
OTHER_METHOD: Final = "_OTHER"
OTHER_NAME: Final = "grpc"

# By errors.FROM_*.
SOURCE_NAMES: Final = ("upstream", "gateway", "downstream")

# The codes that are the server's fault; on a server span the others are the caller's business and no error.
DATA_LOSS: Final = STATUS_NAMES.index("DATA_LOSS")
SERVER_ERRORS: Final = frozenset({UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS})

# A grpc-message may be a stack trace of many KiB; a status description is one that a person reads in a list.
MAX_DESCRIPTION: Final = 1024
# Paths of unmatched calls come from anybody.
MAX_METHOD_ORIGINAL: Final = 256

Attributes = dict[str, str | int]


def method_of(outcome: Outcome) -> str:
    """``pkg.Service/Method``, the fully qualified method without its leading slash."""
    return outcome.path.decode("utf-8", "replace").removeprefix("/")


def span_name(outcome: Outcome) -> str:
    """The method, or ``grpc`` for a call that no service of the mesh answers.

    Such a path is the caller's invention: as a name it would make as many operations as there are typing errors.
    """
    return method_of(outcome) if outcome.service else OTHER_NAME


def server_failed(code: int) -> bool:
    """Whether this status makes the server span an error. Numbers outside the list count as UNKNOWN (grpc)."""
    return code in SERVER_ERRORS or not 0 <= code < len(STATUS_NAMES)


def client_failed(code: int) -> bool:
    """Whether this status makes the client span an error."""
    return code != OK


def description(outcome: Outcome) -> str:
    """Why it failed, in the gateway's words or the server's."""
    if outcome.reason:
        return outcome.reason[:MAX_DESCRIPTION]
    # grpc-message is percent-encoded UTF-8 (PROTOCOL-HTTP2.md); what is not valid is shown rather than refused.
    return unquote_to_bytes(outcome.message).decode("utf-8", "replace")[:MAX_DESCRIPTION]


def server_attributes(outcome: Outcome) -> Attributes:
    """What the server span (caller to gateway) says."""
    attributes = _common(outcome, server_failed(outcome.code))
    if outcome.peer_host:
        attributes[NETWORK_PEER_ADDRESS] = outcome.peer_host
        if outcome.peer_port:
            attributes[NETWORK_PEER_PORT] = outcome.peer_port
    return attributes


def client_attributes(outcome: Outcome) -> Attributes:
    """What the client span (gateway to instance) says; the whole logical call with all its attempts."""
    attributes = _common(outcome, client_failed(outcome.code))
    # The logical target, never the picked address: that is the peer. A service of the mesh has no port.
    attributes[SERVER_ADDRESS] = outcome.service
    if outcome.attempts > 1:
        attributes[MESHWAY_ATTEMPTS] = outcome.attempts
    endpoint = outcome.endpoint
    if endpoint is not None:
        _add_peer(attributes, endpoint)
    return attributes


def _common(outcome: Outcome, failed: bool) -> Attributes:
    status = code_name(outcome.code)
    attributes: Attributes = {RPC_SYSTEM_NAME: SYSTEM, RPC_RESPONSE_STATUS_CODE: status}
    if outcome.service:
        attributes[RPC_METHOD] = method_of(outcome)
        attributes[MESHWAY_SERVICE] = outcome.service
    else:
        attributes[RPC_METHOD] = OTHER_METHOD
        attributes[RPC_METHOD_ORIGINAL] = method_of(outcome)[:MAX_METHOD_ORIGINAL]
    if outcome.route:
        attributes[MESHWAY_ROUTE] = outcome.route
    if failed:
        attributes[ERROR_TYPE] = status
        attributes[MESHWAY_ERROR_SOURCE] = SOURCE_NAMES[outcome.source]
    return attributes


def _add_peer(attributes: Attributes, endpoint: Endpoint) -> None:
    attributes[MESHWAY_INSTANCE] = endpoint.instance_id
    path = unix_path(endpoint.address)
    if path is not None:
        attributes[NETWORK_PEER_ADDRESS] = path
        return
    try:
        attributes[NETWORK_PEER_ADDRESS], attributes[NETWORK_PEER_PORT] = split_address(endpoint.address)
    except ValueError:  # it could not be dialled either, and that is what the span tells of
        attributes[NETWORK_PEER_ADDRESS] = endpoint.address
