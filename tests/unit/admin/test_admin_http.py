"""The operator's endpoint over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway.admin import http
from gateway.admin.http import AdminError, AdminServer, Reply


def broken() -> object:
    raise RuntimeError("a bug")


PAGES = {
    "/counters": lambda: {"open_streams": 3},
    "/healthz": lambda: "ok",
    "/readyz": lambda: Reply(503, "draining"),
    "/endpoints": lambda: [{"service": "cart"}],
    "/broken": broken,
}


@pytest.fixture
async def server() -> AsyncIterator[AdminServer]:
    running = AdminServer("127.0.0.1:0", PAGES)
    yield running
    await running.stop()


async def ask(address: str, request: bytes) -> tuple[int, dict[str, str], str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(body.encode()) == int(headers["content-length"])
    return int(first.split()[1]), headers, body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()


async def test_pages(server: AdminServer) -> None:
    address = await server.start()
    assert not address.endswith(":0")
    status, headers, body = await ask(address, get("/counters"))
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"open_streams": 3})
    assert headers["connection"] == "close"
    assert (await ask(address, get("/healthz?verbose")))[0::2] == (200, "ok\n")
    assert (await ask(address, get("/readyz")))[0::2] == (503, "draining\n")
    assert json.loads((await ask(address, get("/endpoints")))[2]) == [{"service": "cart"}]
    status, _headers, body = await ask(address, get("/"))
    assert status == 200
    assert "/counters" in body


async def test_what_is_not_served_is_answered_cleanly(server: AdminServer, caplog: pytest.LogCaptureFixture) -> None:
    address = await server.start()
    status, _headers, body = await ask(address, get("/nope"))
    assert status == 404
    assert "/endpoints" in body
    status, headers, _body = await ask(address, b"POST /counters HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
    assert (status, headers["allow"]) == (405, "GET")
    for junk in (
        b"junk\r\n\r\n",
        b"GET counters HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"\r\n\r\n",
        b"\0 / \0\r\n\r\n",
    ):
        assert (await ask(address, junk))[0] == 400, junk
    huge = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000
    assert (await ask(address, huge + b"\r\n"))[0] == 431
    assert not caplog.records
    status, _headers, body = await ask(address, get("/broken"))
    assert status == 500
    assert "a bug" not in body
    assert len(caplog.records) == 1


async def test_a_client_that_leaves_or_dawdles_is_forgotten(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.05)
    address = await server.start()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /cou")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    _reader, leaver = await asyncio.open_connection(host, int(port))
    leaver.write(b"GET")
    leaver.close()
    assert (await ask(address, get("/healthz")))[0] == 200
    assert not caplog.records


async def test_connections_are_bounded(server: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    address = await server.start()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    await asyncio.sleep(0.02)
    silence, refused = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(5):
        assert await silence.read() == b""
    refused.close()
    writer.write(b"\r\n")
    assert b"200 OK" in await reader.read()
    writer.close()


async def test_stop_closes_what_is_open(server: AdminServer) -> None:
    address = await server.start()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET")
    await asyncio.sleep(0.02)
    async with asyncio.timeout(5):
        await server.stop()
        assert await reader.read() == b""
    writer.close()
    await server.stop()


@pytest.mark.parametrize("listen", ["9901", ":9901", "localhost:", "localhost:http", "127.0.0.1:99999"])
async def test_bad_addresses_are_named(listen: str) -> None:
    with pytest.raises(AdminError, match="HOST:PORT"):
        await AdminServer(listen, PAGES).start()


async def test_an_address_in_use_is_named(server: AdminServer) -> None:
    address = await server.start()
    with pytest.raises(AdminError, match=f"cannot listen on {address}: "):
        await AdminServer(address, PAGES).start()
