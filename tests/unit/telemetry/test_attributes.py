"""The table of span attributes, against the conventions package and rule by rule."""

import pytest
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv.attributes import error_attributes, network_attributes, server_attributes
from opentelemetry.semconv.schemas import Schemas

from gateway.errors import (
    CANCELLED,
    FROM_DOWNSTREAM,
    FROM_GATEWAY,
    NOT_FOUND,
    OK,
    STATUS_NAMES,
    UNAVAILABLE,
    UNIMPLEMENTED,
)
from gateway.model import Endpoint, Outcome
from gateway.telemetry import attributes as table


def outcome(code: int = OK, path: bytes = b"/shop.Cart/Add", service: str = "cart") -> Outcome:
    result = Outcome(path, b"gateway", "::1", 5000, 1.0)
    result.code = code
    result.service = service
    return result


def test_names_are_those_of_the_conventions() -> None:
    assert Schemas.V1_44_0.value == table.SCHEMA_URL
    for name in ("RPC_SYSTEM_NAME", "RPC_METHOD", "RPC_METHOD_ORIGINAL", "RPC_RESPONSE_STATUS_CODE"):
        assert getattr(table, name) == getattr(rpc_attributes, name)
    assert error_attributes.ERROR_TYPE == table.ERROR_TYPE
    assert server_attributes.SERVER_ADDRESS == table.SERVER_ADDRESS
    assert network_attributes.NETWORK_PEER_ADDRESS == table.NETWORK_PEER_ADDRESS
    assert network_attributes.NETWORK_PEER_PORT == table.NETWORK_PEER_PORT


def test_server_span_fails_by_six_codes_and_numbers_outside_the_list() -> None:
    failed = {STATUS_NAMES[code] for code in range(17) if table.server_failed(code)}
    assert failed == {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
    assert table.server_failed(99)
    assert [code for code in range(17) if not table.client_failed(code)] == [OK]


def test_success_says_nothing_of_errors() -> None:
    for attributes in (table.server_attributes(outcome()), table.client_attributes(outcome())):
        assert attributes[table.RPC_RESPONSE_STATUS_CODE] == "OK"
        assert table.ERROR_TYPE not in attributes
        assert table.MESHWAY_ERROR_SOURCE not in attributes


def test_a_code_that_is_no_server_error_is_one_for_the_client_alone() -> None:
    assert table.ERROR_TYPE not in table.server_attributes(outcome(NOT_FOUND))
    assert table.client_attributes(outcome(NOT_FOUND))[table.ERROR_TYPE] == "NOT_FOUND"


def test_error_source() -> None:
    lost = outcome(UNAVAILABLE)
    lost.source = FROM_GATEWAY
    assert table.server_attributes(lost)[table.MESHWAY_ERROR_SOURCE] == "gateway"
    left = outcome(CANCELLED)
    left.source = FROM_DOWNSTREAM
    assert table.client_attributes(left)[table.MESHWAY_ERROR_SOURCE] == "downstream"


def test_unmatched_method_does_not_become_a_name() -> None:
    unknown = outcome(UNIMPLEMENTED, b"/no.Such/Thing" + b"x" * 1000, service="")
    attributes = table.server_attributes(unknown)
    assert table.span_name(unknown) == "grpc"
    assert attributes[table.RPC_METHOD] == "_OTHER"
    assert str(attributes[table.RPC_METHOD_ORIGINAL]).startswith("no.Such/Thing")
    assert len(str(attributes[table.RPC_METHOD_ORIGINAL])) == table.MAX_METHOD_ORIGINAL
    assert table.MESHWAY_SERVICE not in attributes
    assert table.span_name(outcome()) == "shop.Cart/Add"


def test_attempts_are_told_when_there_were_several() -> None:
    once = outcome()
    once.attempts = 1
    assert table.MESHWAY_ATTEMPTS not in table.client_attributes(once)
    once.attempts = 3
    assert table.client_attributes(once)[table.MESHWAY_ATTEMPTS] == 3


def test_peers() -> None:
    server = table.server_attributes(outcome())
    assert (server[table.NETWORK_PEER_ADDRESS], server[table.NETWORK_PEER_PORT]) == ("::1", 5000)
    local = Outcome(b"/a.B/C", b"", "", 0, 1.0)
    assert table.NETWORK_PEER_ADDRESS not in table.server_attributes(local)
    called = outcome()
    called.endpoint = Endpoint("cart", "cart-1", "unix:/run/cart.sock", {})
    client = table.client_attributes(called)
    assert client[table.NETWORK_PEER_ADDRESS] == "/run/cart.sock"
    assert table.NETWORK_PEER_PORT not in client
    assert client[table.SERVER_ADDRESS] == "cart"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("10.0.0.1:70", "10.0.0.1", 70),
        ("[fe80::1]:443", "fe80::1", 443),
        ("cart.local:1", "cart.local", 1),
        ("unix:/x:1", "/x:1", None),
        ("nowhere", "nowhere", None),
    ],
)
def test_the_peer_is_the_endpoint(address: str, host: str, port: int | None) -> None:
    one = outcome()
    one.endpoint = Endpoint("cart", "one", address, {})
    client = table.client_attributes(one)
    assert client[table.NETWORK_PEER_ADDRESS] == host
    assert client.get(table.NETWORK_PEER_PORT) == port


def test_description_is_the_gateway_s_reason_or_the_server_s_words() -> None:
    failed = outcome(UNAVAILABLE)
    failed.message = b"caf%C3%A9 %zz %FF"
    assert table.description(failed) == "café %zz \ufffd"
    failed.reason = "No live instance of cart."
    assert table.description(failed) == "No live instance of cart."
    failed.reason = "x" * 5000
    assert len(table.description(failed)) == table.MAX_DESCRIPTION
