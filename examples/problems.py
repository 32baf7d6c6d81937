"""Ends a call with a status that carries rich details (google.rpc.Status in ``grpc-status-details-bin``)."""

from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

DETAILS_KEY = "grpc-status-details-bin"

Context = aio.ServicerContext[Any, Any]


async def _abort(context: Context, code: grpc.StatusCode, message: str, detail: Message) -> NoReturn:
    packed = any_pb2.Any()
    packed.Pack(detail)
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=message, details=[packed])
    await context.abort(code, message, ((DETAILS_KEY, status.SerializeToString()),))


async def not_found(context: Context, kind: str, name: str) -> NoReturn:
    """End the call with NOT_FOUND, and a ResourceInfo that names what is missing."""
    message = f"there is no {kind} called {name!r}"
    detail = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    await _abort(context, grpc.StatusCode.NOT_FOUND, message, detail)


async def invalid_field(context: Context, field: str, description: str) -> NoReturn:
    """End the call with INVALID_ARGUMENT, and a BadRequest that names the field."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    detail = error_details_pb2.BadRequest(field_violations=[violation])
    await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {description}", detail)
