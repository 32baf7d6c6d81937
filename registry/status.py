"""The one map from the registry's refusals to gRPC statuses, with google.rpc details in grpc-status-details-bin."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from registry.errors import Reason, RegistryError

DOMAIN = "meshway.registry"
DETAILS_KEY = "grpc-status-details-bin"  # where gRPC carries a google.rpc.Status

CODES = {
    Reason.INVALID_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MALFORMED_MESSAGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.ADDRESS_NOT_REACHABLE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MESSAGE_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.LEASE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.LEASE_EXPIRED: grpc.StatusCode.NOT_FOUND,
    Reason.SUPERSEDED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.INSTANCE_LIVE: grpc.StatusCode.ALREADY_EXISTS,
    Reason.REVISION_CONFLICT: grpc.StatusCode.ABORTED,
    Reason.SERVICE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.DESCRIPTOR_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.REVISION_NOT_REACHED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SLOW_CONSUMER: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.STORE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}


def code_of(error: RegistryError) -> grpc.StatusCode:
    """The gRPC code of a refusal."""
    return CODES[error.reason]


def details_of(error: RegistryError) -> bytes:
    """The serialized google.rpc.Status: ErrorInfo always, BadRequest for a field, RetryInfo where a retry helps."""
    status = status_pb2.Status(code=_number(code_of(error)), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=error.metadata)
    status.details.append(_packed(info))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    serialized: bytes = status.SerializeToString()
    return serialized


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _packed(
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
