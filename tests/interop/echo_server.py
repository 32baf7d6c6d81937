"""A gRPC server for the interop tests, run as a program: real grpcio (or grpclib) servers that register themselves.

Its one argument is a JSON object: ``registry`` (an address, or null to stay unregistered), ``ttl`` in seconds, and
``instances``, a list of ``{service, instance, grpc_services, labels, weight, port, stack}``. One process serves all of
them, each on a port of its own, and prints ``echo listening {"INSTANCE": "host:port", ...}`` once all are registered,
with one more address by the name ``control``.

The methods are UnaryUnary, UnaryStream, StreamUnary and StreamStream of any gRPC service; messages are plain bytes.
Without a script, what comes is sent back: once, COPIES times, joined, or one by one. The metadata field ``x-script``
asks for another behaviour, a JSON list of steps (see ``Call``). The control address serves ``/interop.Control/Do``,
which tells what a call has come to, and lets held calls go on.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from registry.client import Registration

COPIES = 3
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]

Step = list[Any]
Reply = Callable[[bytes], Awaitable[None]]
Served = tuple[str, Callable[[], Awaitable[None]]]  # an address, and what stops the server there


class Journal:
    """What every call of this process has come to, for the tests to wait on."""

    def __init__(self) -> None:
        self.active = 0
        self.calls: Counter[str] = Counter()  # by instance
        self._events: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)

    def note(self, call: str, event: str) -> None:
        """It has come to this."""
        self._events[call, event].set()

    async def wait(self, call: str, event: str) -> None:
        """Until it has come to this."""
        await self._events[call, event].wait()


class Call:
    """One call: does the steps of its script in order, and then ends with OK.

    headers: send the initial metadata now. mirror: the request's fields ``m-*`` become initial and trailing metadata.
    gzip: compress the answer. recv N: take N requests. drain: take all until the half-close. echo: send each back.
    send N SIZE: send N messages. count_all: send how many requests came, and their bytes. mark EVENT: note it in the
    journal. hold: wait for a release. abort CODE TEXT DETAILS_HEX: end with an error.
    """

    def __init__(
        self, journal: Journal, instance: str, requests: AsyncIterator[bytes], reply: Reply, context: Any
    ) -> None:
        self._journal = journal
        self._requests = requests
        self._reply = reply
        self._context = context
        self._count = self._bytes = 0
        metadata = list(context.invocation_metadata())
        self._mirrored = tuple((key, value) for key, value in metadata if key.startswith("m-"))
        fields = dict(metadata)
        self._name = str(fields.get("x-call", ""))
        self._script = fields.get("x-script")
        remaining = context.time_remaining()
        self._about = (("x-instance", instance), ("x-remaining", "" if remaining is None else f"{remaining:.6f}"))
        journal.calls[instance] += 1

    async def run(self, default: list[Step]) -> None:
        """From start to end, whatever the end is."""
        self._journal.active += 1
        self._journal.note(self._name, "started")
        try:
            for name, *arguments in json.loads(self._script) if self._script else default:
                await getattr(self, f"_{name}")(*arguments)
            self._journal.note(self._name, "finished")
        except asyncio.CancelledError:
            self._journal.note(self._name, "cancelled")
            raise
        finally:
            self._journal.active -= 1
            self._journal.note(self._name, "ended")

    async def _headers(self) -> None:
        await self._context.send_initial_metadata(self._about)

    async def _mirror(self) -> None:
        self._context.set_trailing_metadata(self._mirrored)
        await self._context.send_initial_metadata((*self._about, *self._mirrored))

    async def _gzip(self) -> None:
        self._context.set_compression(grpc.Compression.Gzip)

    async def _recv(self, count: int) -> None:
        for _ in range(count):
            await self._next()

    async def _drain(self) -> None:
        while await self._next() is not None:
            pass

    async def _next(self) -> bytes | None:
        message = await anext(self._requests, None)
        if message is not None:
            self._count += 1
            self._bytes += len(message)
        return message

    async def _mark(self, event: str) -> None:
        self._journal.note(self._name, event)

    async def _hold(self) -> None:
        await self._journal.wait(self._name, "released")

    async def _abort(self, code: str, text: str, details: str) -> None:
        more = (("grpc-status-details-bin", bytes.fromhex(details)),) if details else ()
        await self._context.abort(grpc.StatusCode[code], text, more)

    async def _send(self, count: int, size: int) -> None:
        message = b"x" * size
        for _ in range(count):
            await self._reply(message)

    async def _echo(self) -> None:
        while (message := await self._next()) is not None:
            await self._reply(message)

    async def _copy(self) -> None:
        message = await self._next() or b""
        for _ in range(COPIES):
            await self._reply(message)

    async def _join(self) -> None:
        pieces = [piece async for piece in self._requests]
        await self._reply(b"".join(pieces))

    async def _count_all(self) -> None:
        await self._reply(json.dumps([self._count, self._bytes]).encode())


class EchoHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The four methods, for one instance."""

    def __init__(self, journal: Journal, instance: str) -> None:
        self._journal = journal
        self._instance = instance

    def service(self, details: Any) -> Any:
        """The method's handler; the gRPC service's name may be any."""
        return {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }.get(details.method.rpartition("/")[2])

    async def _unary_unary(self, request: bytes, context: Any) -> bytes:
        return await self._answer(_once(request), context, [["headers"], ["echo"]])

    async def _unary_stream(self, request: bytes, context: Any) -> None:
        call = Call(self._journal, self._instance, _once(request), context.write, context)
        await call.run([["headers"], ["copy"]])

    async def _stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await self._answer(requests, context, [["headers"], ["join"]])

    async def _stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        call = Call(self._journal, self._instance, requests, context.write, context)
        await call.run([["headers"], ["echo"]])

    async def _answer(self, requests: AsyncIterator[bytes], context: Any, default: list[Step]) -> bytes:
        answers: list[bytes] = [b""]

        async def reply(message: bytes) -> None:
            answers[0] = message

        await Call(self._journal, self._instance, requests, reply, context).run(default)
        return answers[0]


async def _once(request: bytes) -> AsyncIterator[bytes]:
    yield request


class Control(grpc.GenericRpcHandler):  # type: ignore[misc]
    """``/interop.Control/Do``: one JSON object in, one out."""

    def __init__(self, journal: Journal, leases: dict[str, Registration]) -> None:
        self._journal = journal
        self._leases = leases

    def service(self, details: Any) -> Any:
        """The one method."""
        return grpc.unary_unary_rpc_method_handler(self._do) if details.method == "/interop.Control/Do" else None

    async def _do(self, request: bytes, _context: Any) -> bytes:
        (order, argument), *_ = json.loads(request).items()
        if order == "await":
            await self._journal.wait(*argument)
        elif order == "release":
            self._journal.note(argument, "released")
        elif order == "drain":
            await self._leases[argument].drain()
        elif order == "leave":
            await self._leases[argument].close(drain=False)
        return json.dumps({"active": self._journal.active, "calls": self._journal.calls}).encode()


async def serve_grpcio(*handlers: grpc.GenericRpcHandler, port: int = 0) -> Served:
    """Start a server on grpcio; its address, and what stops it."""
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return f"127.0.0.1:{port}", lambda: server.stop(0)


async def serve(spec: dict[str, Any], journal: Journal) -> Served:
    """Start one instance. Those on grpclib know the plain behaviours alone."""
    if spec.get("stack") == "grpclib":
        from grpclib_echo import start

        return await start(spec["grpc_services"], COPIES)
    return await serve_grpcio(EchoHandlers(journal, spec["instance"]), port=spec.get("port", 0))


def lease_for(spec: dict[str, Any], address: str, plan: dict[str, Any]) -> Registration:
    """The registration of one instance."""
    return Registration(
        plan["registry"],
        service=spec["service"],
        address=address,
        instance_id=spec["instance"],
        grpc_services=spec["grpc_services"],
        labels=spec.get("labels") or {},
        weight=spec.get("weight", 1),
        ttl=plan.get("ttl", 5.0),
    )


async def main(plan: dict[str, Any]) -> None:
    """Serve every instance until SIGTERM, then deregister and end."""
    journal = Journal()
    leases: dict[str, Registration] = {}
    served = {"control": await serve_grpcio(Control(journal, leases))}
    for spec in plan["instances"]:
        name = spec["instance"]
        served[name] = await serve(spec, journal)
        if plan.get("registry"):
            leases[name] = lease_for(spec, served[name][0], plan)
    await asyncio.gather(*(lease.start() for lease in leases.values()))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"echo listening {json.dumps({name: address for name, (address, _) in served.items()})}", flush=True)
    await stopping.wait()
    await asyncio.gather(*(lease.close(drain=False) for lease in leases.values()))
    for _, stop in served.values():
        await stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
