"""Addresses as text."""

import pytest

from gateway.address import format_address, split_address, unix_path


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:80", "localhost", 80),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("a.b-c_d:7", "a.b-c_d", 7),
    ],
)
def test_there_and_back(text, host, port):
    assert split_address(text) == (host, port)
    assert format_address(host, port) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", ":80", "host:http", "host:-1", "host:65536", "::1:80", "[]:80", "host:8 0", "host:1.0"],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="is not an address of the form host:port"):
        split_address(text)


def test_unix_sockets():
    assert unix_path("unix:/run/a.sock") == "/run/a.sock"
    assert unix_path("host:80") is None
