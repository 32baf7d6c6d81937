"""Calls of all four kinds with grpc.aio, in one form; and the phases that a call can be in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grpc import aio
from mesh import PATIENCE, unique

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")

# The phases of a call, and for each kind those that it can be held in. A unary request has its end from the start.
BEFORE_HEADERS = "before headers"
AFTER_HEADERS = "after headers"
MID_STREAM = "mid-stream"
HALF_CLOSED = "after half-close"
PHASES = {
    "UnaryUnary": (BEFORE_HEADERS, AFTER_HEADERS),
    "UnaryStream": (BEFORE_HEADERS, AFTER_HEADERS, MID_STREAM),
    "StreamUnary": (BEFORE_HEADERS, AFTER_HEADERS, HALF_CLOSED),
    "StreamStream": (BEFORE_HEADERS, AFTER_HEADERS, MID_STREAM, HALF_CLOSED),
}
CASES = [(kind, phase) for kind in KINDS for phase in PHASES[kind]]
SENT_IN_PHASE = 3  # messages of the server, mid-stream
REQUEST = b"request"

Metadata = Sequence[tuple[str, str | bytes]]


class Conversation:
    """One call under way, whatever its kind."""

    def __init__(self, call: Any, sends: bool, reads: bool, name: str) -> None:
        self.call = call
        self.sends = sends  # a stream of requests
        self.reads = reads  # a stream of answers
        self.name = name  # in the server's journal

    async def send(self, *messages: bytes) -> None:
        """Send further requests."""
        for message in messages:
            await self.call.write(message)

    async def done(self) -> None:
        """Half-close."""
        if self.sends:
            await self.call.done_writing()

    async def headers(self) -> dict[str, Any]:
        """The initial metadata, once it is there."""
        return dict(await self.call.initial_metadata())

    async def read(self) -> bytes | None:
        """The next answer; None at the end."""
        message = await self.call.read()
        return None if message is aio.EOF else bytes(message)

    async def rest(self) -> list[bytes]:
        """All answers that are left. Raises AioRpcError if the end is not OK."""
        if not self.reads:
            return [await self.call]
        messages = []
        while (message := await self.read()) is not None:
            messages.append(message)
        return messages

    async def failure(self) -> aio.AioRpcError:
        """How it failed, without another message."""
        try:
            message = await (self.read() if self.reads else self.call)
        except aio.AioRpcError as error:
            return error
        raise AssertionError(f"there was no failure: {message!r:.100}")

    def cancel(self) -> None:
        """The client changes its mind."""
        self.call.cancel()


class Caller:
    """Calls the echo methods of one gRPC service."""

    def __init__(self, channel: aio.Channel, service: str) -> None:
        self._channel = channel
        self._service = service

    def start(
        self,
        kind: str,
        script: Sequence[Sequence[Any]] = (),
        request: bytes = REQUEST,
        metadata: Metadata = (),
        timeout: float | None = PATIENCE,
        early: bool = False,
        **options: Any,
    ) -> Conversation:
        """Start a call; ``request`` is that of a unary request.

        ``early`` reads a unary answer as a stream of one: grpc.aio holds the headers of a UnaryUnary call back until
        its end otherwise. The wire is the same.
        """
        name = unique("call-")
        fields = [("x-call", name), *metadata]
        if script:
            fields.append(("x-script", json.dumps(script)))
        sends, reads = kind.startswith("Stream"), kind.endswith("Stream") or early
        style = f"{'stream' if sends else 'unary'}_{'stream' if reads else 'unary'}"
        method = getattr(self._channel, style)(f"/{self._service}/{kind}")
        first = () if sends else (request,)
        return Conversation(method(*first, metadata=fields, timeout=timeout, **options), sends, reads, name)

    async def exchange(self, kind: str, *messages: bytes, **options: Any) -> list[bytes]:
        """A whole call: all requests, then all answers."""
        conversation = self.start(kind, request=messages[0], **options)
        if conversation.sends:
            await conversation.send(*messages)
            await conversation.done()
        return await conversation.rest()

    async def instance(self, metadata: Metadata = (), timeout: float = PATIENCE, **options: Any) -> str:
        """Which instance answers a unary call."""
        conversation = self.start("UnaryUnary", metadata=metadata, timeout=timeout, **options)
        await conversation.rest()
        return str((await conversation.headers())["x-instance"])

    def hold(self, kind: str, phase: str, timeout: float | None = PATIENCE, metadata: Metadata = ()) -> Conversation:
        """Start a call whose server holds it in this phase, and marks "here" there."""
        script = phase_script(kind, phase)
        return self.start(kind, script, timeout=timeout, metadata=metadata, early=phase == AFTER_HEADERS)


def phase_script(kind: str, phase: str) -> list[list[Any]]:
    """What the server does to hold a call in this phase."""
    steps: list[list[Any]] = [["drain"] if phase == HALF_CLOSED else ["recv", 1]]
    if phase == AFTER_HEADERS:
        steps.append(["headers"])
    if phase == MID_STREAM or (phase == HALF_CLOSED and kind.endswith("Stream")):
        steps.append(["send", SENT_IN_PHASE, 10])
    return [*steps, ["mark", "here"], ["hold"]]


async def come_to(conversation: Conversation, phase: str) -> None:
    """The client's part of getting a held call into its phase, all but waiting for the server's mark."""
    if conversation.sends:
        await conversation.send(REQUEST)
    if phase == HALF_CLOSED:
        await conversation.done()
    if phase == AFTER_HEADERS:
        await conversation.headers()
    if phase == MID_STREAM or (phase == HALF_CLOSED and conversation.reads):
        for _ in range(SENT_IN_PHASE):
            assert await conversation.read() == b"x" * 10
