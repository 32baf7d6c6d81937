"""The README's mesh, typed in order: its commands and its Python snippets, with its ports exchanged for free ones."""

import asyncio
import re
import shlex
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from meshway.examples.v1.catalog_pb2 import GetProductRequest
from meshway.examples.v1.catalog_pb2_grpc import CatalogStub

from examples.demo.processes import Child, Guard, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECONDS = 30.0


class Reader:
    """Somebody who types what the README says."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.children: list[Child] = []
        self.ports = {port: str(free_port()) for port in ("7500", "8080", "9000", "9901")}

    def command(self, start: str) -> list[str]:
        """The README's first command that begins like this, as it can be run here."""
        text = re.sub(r"\\\n\s*", "", README)
        line = next(line for line in text.splitlines() if line.startswith(start))
        words = shlex.split(self.with_free_ports(line))
        return [word for known in words for word in self.executable(known)]

    def executable(self, word: str) -> list[str]:
        return {"meshway": [sys.executable, "-m", "gateway"], "python": [sys.executable]}.get(word, [word])

    def with_free_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        return text.replace("examples/demo/gateway.yaml", str(ROOT / "examples" / "demo" / "gateway.yaml"))

    async def start(self, start: str, *more: str) -> Child:
        """Type a command that goes on, and wait until it listens."""
        child = Child(self.guard, start, [*self.command(start), *more])
        self.children.append(child)
        await child.start()
        return child

    async def run(self, start: str) -> tuple[int, str]:
        """Type a command that ends; its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *self.command(start), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode is not None
        return process.returncode, out.decode()

    def snippet(self, containing: str) -> str:
        """The README's Python block with these words, as it can be run here."""
        blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
        return self.with_free_ports(next(block for block in blocks if containing in block))


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    """With the registry and the gateway running."""
    reader = Reader()
    try:
        await reader.start("meshway registry")
        await reader.start(
            "meshway gateway --config", "--listen", f"127.0.0.1:{reader.ports['8080']}", *registry(reader)
        )
        yield reader
    finally:
        for child in reversed(reader.children):
            await child.stop()


def registry(reader: Reader) -> list[str]:
    return ["--registry", f"127.0.0.1:{reader.ports['7500']}"]


async def first_answer(reader: Reader) -> str:
    """Call through the gateway until the mesh answers; the instance that did."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{reader.ports['8080']}") as channel:
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    answer = await CatalogStub(channel).GetProduct(GetProductRequest(sku="lamp"), timeout=5)
                    return str(answer.served_by.instance)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)


async def test_the_readme_from_registry_to_call(reader: Reader, capsys: pytest.CaptureFixture[str]):
    await reader.start("meshway register ")
    await first_answer(reader)

    code, listed = await reader.run("meshway services")
    assert (code, "catalog" in listed, "shop.Catalog" in listed) == (0, True, True), listed
    code, listed = await reader.run("meshway instances")
    assert (code, f"127.0.0.1:{reader.ports['9000']}" in listed) == (0, True), listed
    code, said = await reader.run("meshway health")
    assert code == 0, said

    await asyncio.to_thread(exec, reader.snippet("CatalogStub"), {})
    assert 'name: "Desk lamp"' in capsys.readouterr().out

    page = reader.command("curl ")[-1]
    with await asyncio.to_thread(urllib.request.urlopen, page, timeout=5) as answer:
        assert answer.status == 200


async def test_the_readme_in_python(reader: Reader):
    """The snippet that registers, around a server of our own."""
    code = reader.snippet("Registration(")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    server = grpc.aio.server()
    server.add_insecure_port(f"127.0.0.1:{reader.ports['9000']}")
    serving = asyncio.create_task(names["serve"](server))
    async with asyncio.timeout(SECONDS):
        while True:
            _, listed = await reader.run("meshway instances")
            if f"127.0.0.1:{reader.ports['9000']}" in listed:
                break
            assert not serving.done(), listed
    await server.stop(None)
    await serving
    _, listed = await reader.run("meshway instances")
    assert f"127.0.0.1:{reader.ports['9000']}" not in listed


async def test_the_readme_validates_its_config():
    code, said = await Reader().run("meshway config validate")
    assert code == 0, said
