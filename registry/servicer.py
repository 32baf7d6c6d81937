"""The gRPC side of the registry: parse, check, ask the engine, translate back. No rule lives here.

Messages are parsed and written here rather than by grpc, so that what cannot be parsed, or is too large, gets a proper
status with details. Every refusal leaves through one door, ``_refuse``; a bug is INTERNAL and says nothing of itself.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from meshway.registry.v1 import registry_pb2 as pb

from registry import translate, validate
from registry.addresses import is_local_peer
from registry.engine import Engine
from registry.errors import Reason, RegistryError
from registry.frames import Frames
from registry.status import DETAILS_KEY, code_of, details_of

logger = logging.getLogger(__name__)

SERVICE = "meshway.registry.v1.Registry"

MAX_MESSAGE_BYTES = 1024 * 1024
WRITE_PROGRESS_SECONDS = 30.0  # a watcher that takes nothing for so long holds memory for nobody
RETRY_MS = 1000  # when to come back after a stream was ended, or to look for the registry again
UNBOUNDED_WAIT_SECONDS = 30.0  # how long Resolve waits for a revision when the call has no deadline
ANSWER_MARGIN = 0.1  # the part of a deadline that is left for the answer's way, so that its details arrive in time

Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)
Result = TypeVar("Result")


class RegistryServicer:
    """Serves one engine. ``allow_local_addresses`` lets remote peers register loopback and link-local addresses."""

    def __init__(
        self,
        engine: Engine,
        allow_local_addresses: bool = False,
        write_progress_seconds: float = WRITE_PROGRESS_SECONDS,
    ) -> None:
        self._engine = engine
        self._allow_local_addresses = allow_local_addresses
        self._write_progress_seconds = write_progress_seconds
        self._frames = Frames(engine)
        self._streams: set[asyncio.Task[None]] = set()
        self._closing = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What to give to ``server.add_generic_rpc_handlers``."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Register": self._unary(pb.RegisterRequest, self._register),
                "KeepAlive": grpc.stream_stream_rpc_method_handler(self._keep_alive_stream),
                "KeepAliveOnce": self._unary(pb.KeepAliveRequest, self._keep_alive),
                "Update": self._unary(pb.UpdateRequest, self._update),
                "Drain": self._unary(pb.DrainRequest, self._drain),
                "Deregister": self._unary(pb.DeregisterRequest, self._deregister),
                "Resolve": self._unary(pb.ResolveRequest, self._resolve),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch_stream),
                "ListServices": self._unary(pb.ListServicesRequest, self._list_services),
                "GetDescriptorSet": self._unary(pb.GetDescriptorSetRequest, self._get_descriptor_set),
            },
        )

    def close(self) -> None:
        """Refuse new calls and end all streams, with UNAVAILABLE / NOT_READY."""
        self._closing = True
        for task in self._streams:
            task.cancel()

    async def _register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        wish = validate.registration(request, self._takes_local_addresses(context))
        # Maps have no order on the wire, so that only a deterministic encoding can be compared.
        fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        granted = await self._engine.register(wish, request.request_id, fingerprint)
        return pb.RegisterResponse(
            lease_id=granted.lease_id,
            incarnation=granted.incarnation,
            granted_ttl_ms=granted.ttl_ms,
            heartbeat_interval_ms=granted.interval_ms,
            revision=translate.revision(self._engine),
            ttl_clamped=granted.clamped,
        )

    async def _keep_alive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        beats = validate.beats(request)
        if request.epoch and request.epoch != self._engine.catalog.epoch:
            results = [translate.foreign_beat_result(beat.lease_id) for beat in beats]
        else:
            results = [translate.beat_result(reply) for reply in await self._engine.keep_alive(beats)]
        return pb.KeepAliveResponse(results=results, revision=translate.revision(self._engine))

    async def _update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        changed = await self._engine.update(validate.patch(request, self._takes_local_addresses(context)))
        return pb.UpdateResponse(revision=translate.revision(self._engine), changed=changed)

    async def _drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        left_ms = await self._engine.drain(request.lease_id, validate.drain_deadline_ms(request))
        return pb.DrainResponse(revision=translate.revision(self._engine), deadline_ms=left_ms)

    async def _deregister(self, request: pb.DeregisterRequest, context: Context) -> pb.DeregisterResponse:
        already_gone = await self._engine.deregister(request.lease_id)
        return pb.DeregisterResponse(already_gone=already_gone, revision=translate.revision(self._engine))

    async def _resolve(self, request: pb.ResolveRequest, context: Context) -> pb.ResolveResponse:
        key = validate.resolve_key(request)
        if request.HasField("min_revision"):
            await self._engine.reach(request.min_revision, _patience(context))
        records, last_seen_ms_ago = self._engine.resolve(key)
        return translate.resolved(records, self._engine, last_seen_ms_ago)

    async def _list_services(self, request: pb.ListServicesRequest, context: Context) -> pb.ListServicesResponse:
        services = self._engine.services(validate.namespace(request.namespace))
        return pb.ListServicesResponse(
            services=[translate.summary(key, records) for key, records in services],
            revision=translate.revision(self._engine),
        )

    async def _get_descriptor_set(
        self, request: pb.GetDescriptorSetRequest, context: Context
    ) -> pb.GetDescriptorSetResponse:
        found = self._engine.descriptor_set(validate.descriptor_digest(request))
        return pb.GetDescriptorSetResponse(descriptor_set=found)

    async def _keep_alive_stream(self, requests: AsyncIterator[bytes], context: Context) -> None:
        await self._serve_stream(self._answer_beats(context), context)

    async def _answer_beats(self, context: Context) -> None:
        self._check_open()
        while True:
            raw = await context.read()
            if not isinstance(raw, bytes):
                return  # the client has finished
            response = await self._keep_alive(_parsed(pb.KeepAliveRequest, raw), context)
            await context.write(response.SerializeToString())

    async def _watch_stream(self, raw: bytes, context: Context) -> None:
        await self._serve_stream(self._watch(raw, context), context)

    async def _watch(self, raw: bytes, context: Context) -> None:
        self._check_open()
        request = _parsed(pb.WatchRequest, raw)
        scope, resume = validate.watch_scope(request), validate.watch_resume(request)
        woken = asyncio.Event()
        watcher = self._engine.hub.open(scope, resume, woken.set)
        try:
            while True:
                woken.clear()
                now = self._engine.monotonic()
                event = watcher.next_event(now)
                if event is None:
                    await _wait(woken, watcher.due_at(now) - now)
                else:
                    await self._write(self._frames.encode(event, scope), context)
        finally:
            self._engine.hub.close(watcher)

    async def _write(self, frame: bytes, context: Context) -> None:
        try:
            async with asyncio.timeout(self._write_progress_seconds):
                await context.write(frame)
        except TimeoutError:
            raise RegistryError(
                Reason.SLOW_CONSUMER,
                f"the watcher took nothing for {self._write_progress_seconds:g} s; watch again from where it is",
                retry_after_ms=RETRY_MS,
            ) from None

    async def _serve_stream(self, serving: Awaitable[None], context: Context) -> None:
        """Serve a stream to its end, the client's or ours."""
        task = asyncio.current_task()
        assert task is not None  # grpc runs every handler as a task
        self._streams.add(task)
        try:
            await _guarded(serving, context)
        except asyncio.CancelledError:
            if not self._closing or context.done():
                raise  # the client has gone
            task.uncancel()
            await _refuse(context, _shutting_down())
        finally:
            self._streams.discard(task)

    def _unary(
        self, request_type: type[Request], method: Callable[[Request, Context], Awaitable[Message]]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def answer(raw: bytes, context: Context) -> bytes:
            self._check_open()
            return (await method(_parsed(request_type, raw), context)).SerializeToString()

        async def handle(raw: bytes, context: Context) -> bytes:
            return await _guarded(answer(raw, context), context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _check_open(self) -> None:
        if self._closing:
            raise _shutting_down()

    def _takes_local_addresses(self, context: Context) -> bool:
        return self._allow_local_addresses or is_local_peer(context.peer())


async def _guarded(serving: Awaitable[Result], context: Context) -> Result:
    """Let nothing out but an answer, a refusal, or the cancellation of the call."""
    try:
        return await serving
    except RegistryError as error:
        await _refuse(context, error)
    except Exception:
        if context.done():
            raise asyncio.CancelledError from None  # the client left while we were writing to it
        logger.exception("a call failed because of a bug in the registry")
        await _refuse(context, RegistryError(Reason.INTERNAL, "the registry failed on this call; its log says why"))


async def _refuse(context: Context, error: RegistryError) -> NoReturn:
    await context.abort(code_of(error), error.message, ((DETAILS_KEY, details_of(error)),))


def _shutting_down() -> RegistryError:
    return RegistryError(
        Reason.NOT_READY, "the registry is shutting down; try again, or another one", retry_after_ms=RETRY_MS
    )


def _parsed(request_type: type[Request], raw: bytes) -> Request:
    if len(raw) > MAX_MESSAGE_BYTES:
        raise RegistryError(
            Reason.MESSAGE_TOO_LARGE, f"the message has {len(raw)} bytes; it may have {MAX_MESSAGE_BYTES}"
        )
    try:
        return request_type.FromString(raw)
    except DecodeError:
        name = request_type.DESCRIPTOR.full_name
        raise RegistryError(Reason.MALFORMED_MESSAGE, f"the message is no serialized {name}") from None


def _patience(context: Context) -> float:
    """How long a call may wait, in seconds."""
    remaining: float | None = context.time_remaining()  # None without a deadline, whatever the stubs say
    return UNBOUNDED_WAIT_SECONDS if remaining is None else remaining * (1.0 - ANSWER_MARGIN)


async def _wait(woken: asyncio.Event, timeout: float) -> None:
    """Until woken, or for ``timeout`` seconds. A timer of the loop is a tenth of the cost of ``asyncio.wait_for``."""
    alarm = asyncio.get_running_loop().call_later(max(0.0, timeout), woken.set)
    try:
        await woken.wait()
    finally:
        alarm.cancel()
