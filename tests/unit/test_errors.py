"""The tables between HTTP/2, HTTP and gRPC, against grpcio's own codes."""

import grpc
import pytest
from h2.errors import ErrorCodes

from gateway import errors
from gateway.errors import GatewayError, h2_name, status_name, status_of_http, status_of_reset


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_status_names_are_grpcs(code):
    assert status_name(code.value[0]) == code.name


@pytest.mark.parametrize("code", [-1, 17, 255])
def test_other_statuses_are_numbers(code):
    assert status_name(code) == f"CODE({code})"


@pytest.mark.parametrize("name", ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"])
def test_constants(name):
    assert getattr(errors, name) == grpc.StatusCode[name].value[0]


@pytest.mark.parametrize(
    "name", ["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"]
)
def test_more_constants(name):
    assert getattr(errors, name) == grpc.StatusCode[name].value[0]
    assert grpc.StatusCode.UNAUTHENTICATED.value[0] == errors.UNAUTHENTICATED


@pytest.mark.parametrize("code", list(ErrorCodes))
def test_h2_names_are_the_rfcs(code):
    assert h2_name(int(code)) == code.name
    assert getattr(errors, f"H2_{code.name}") == int(code)


@pytest.mark.parametrize(("code", "name"), [(14, "0xe"), (0xFFFFFFFF, "0xffffffff")])
def test_other_h2_codes_are_numbers(code, name):
    assert h2_name(code) == name


@pytest.mark.parametrize("code", range(20))
def test_resets(code):
    """PROTOCOL-HTTP2.md, "Errors"."""
    special = {7: errors.UNAVAILABLE, 8: errors.CANCELLED, 11: errors.RESOURCE_EXHAUSTED, 12: errors.PERMISSION_DENIED}
    assert status_of_reset(code) == special.get(code, errors.INTERNAL)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (431, 13),
        (500, 2),
        (502, 14),
        (503, 14),
        (504, 14),
        (418, 2),
    ],
)
def test_http_statuses(status, code):
    assert status_of_http(status) == code


def test_an_error_is_a_value():
    error = GatewayError(14, errors.FROM_UPSTREAM, errors.RETRY_ONCE, "a:1 is going away")
    assert (error.code, error.source, error.retry, error.reason) == (14, 0, 1, "a:1 is going away")
