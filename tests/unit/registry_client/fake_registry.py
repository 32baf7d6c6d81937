"""A registry that does what a test tells it to: real gRPC, scripted answers."""

import asyncio
import secrets
from collections import deque
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status.rpc_status import to_status
from meshway.registry.v1 import registry_pb2 as pb
from meshway.registry.v1 import registry_pb2_grpc


def refusal(code: grpc.StatusCode, reason: str, message: str = "no", retry_after: float = 0.0) -> Any:
    """A rich status with an ErrorInfo, and a RetryInfo if asked for."""
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=reason, domain="meshway"))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(round(retry_after * 1000))
    details[1].Pack(retry)
    return to_status(status_pb2.Status(code=code.value[0], message=message, details=details))


class FakeRegistry(registry_pb2_grpc.RegistryServicer):
    def __init__(self) -> None:
        self.epoch = secrets.token_bytes(16)
        self.revision = 1
        self.interval_ms = 40
        self.leases: dict[bytes, pb.RegisterRequest] = {}
        self.registered: list[pb.RegisterRequest] = []
        self.beats: list[pb.Beat] = []
        self.updates: list[pb.UpdateRequest] = []
        self.drains: list[pb.DrainRequest] = []
        self.deregistered: list[bytes] = []
        self.streams = 0
        self.refusals: deque[Any] = deque()  # for the next Registers
        self.update_refusals: deque[Any] = deque()
        self.statuses: deque[int] = deque()  # for the next beats
        self.directives: deque[int] = deque()
        self.deaf = False  # beats get no answer
        self.break_streams = 0  # how many KeepAlive streams to break at their next beat
        self.scripts: deque[Any] = deque()  # async generators of WatchResponse, one for each Watch
        self.watches: list[pb.WatchRequest] = []
        self.changed = asyncio.Condition()
        self.server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0) -> "FakeRegistry":
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        registry_pb2_grpc.add_RegistryServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()
        return self

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def until(self, condition: Any, timeout: float = 10.0) -> None:
        """Wait until the condition over this fake holds."""
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:  # noqa: N802
        self.registered.append(request)
        await self._tell()
        if self.refusals:
            await context.abort_with_status(self.refusals.popleft())
        lease_id = next((i for i, r in self.leases.items() if r.boot_id == request.boot_id), None)
        lease_id = lease_id or secrets.token_bytes(16)
        self.leases[lease_id] = request
        self.revision += 1
        return pb.RegisterResponse(
            lease_id=lease_id,
            incarnation=len(self.registered),
            granted_ttl_ms=request.ttl_ms,
            heartbeat_interval_ms=self.interval_ms,
            revision=pb.Revision(epoch=self.epoch, number=self.revision),
        )

    async def KeepAlive(self, requests: Any, context: Any) -> Any:  # noqa: N802
        self.streams += 1
        await self._tell()
        async for request in requests:
            if self.break_streams:
                self.break_streams -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
            self.beats.extend(request.beats)
            if not self.deaf:
                yield pb.KeepAliveResponse(results=[self._answer(beat, request.epoch) for beat in request.beats])
            await self._tell()

    def _answer(self, beat: pb.Beat, epoch: bytes) -> pb.BeatResult:
        status = pb.LEASE_STATUS_OK
        if epoch != self.epoch:
            status = pb.LEASE_STATUS_UNKNOWN_EPOCH
        elif beat.lease_id not in self.leases:
            status = pb.LEASE_STATUS_UNKNOWN
        if self.statuses:
            status = self.statuses.popleft()
            if status != pb.LEASE_STATUS_OK:
                self.leases.pop(beat.lease_id, None)
        directive = self.directives.popleft() if self.directives else pb.DIRECTIVE_UNSPECIFIED
        return pb.BeatResult(
            lease_id=beat.lease_id, status=status, heartbeat_interval_ms=self.interval_ms, directive=directive
        )

    async def Update(self, request: pb.UpdateRequest, context: Any) -> pb.UpdateResponse:  # noqa: N802
        self.updates.append(request)
        if self.update_refusals:
            await context.abort_with_status(self.update_refusals.popleft())
        await self._tell()
        return pb.UpdateResponse(changed=True)

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:  # noqa: N802
        self.drains.append(request)
        await self._tell()
        return pb.DrainResponse(deadline_ms=request.deadline_ms)

    async def Deregister(self, request: pb.DeregisterRequest, context: Any) -> pb.DeregisterResponse:  # noqa: N802
        self.deregistered.append(request.lease_id)
        self.leases.pop(request.lease_id, None)
        await self._tell()
        return pb.DeregisterResponse()

    async def Watch(self, request: pb.WatchRequest, context: Any) -> Any:  # noqa: N802
        self.watches.append(request)
        await self._tell()
        if not self.scripts:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no script left")
        async for response in self.scripts.popleft():
            yield response


async def says(*responses: pb.WatchResponse, then_hang: bool = True) -> Any:
    """A watch script: these responses, then silence (or the end of the stream)."""
    for response in responses:
        yield response
    if then_hang:
        await asyncio.Event().wait()


def instance(instance_id: str, service: str = "cart", incarnation: int = 1, **fields: Any) -> pb.Instance:
    return pb.Instance(
        namespace="default",
        service=service,
        instance_id=instance_id,
        addresses=["127.0.0.1:1"],
        weight=fields.pop("weight", 1),
        incarnation=incarnation,
        state=fields.pop("state", pb.INSTANCE_STATE_READY),
        **fields,
    )


def chunk(*instances: pb.Instance) -> pb.WatchResponse:
    return pb.WatchResponse(snapshot=pb.SnapshotChunk(instances=instances))


def end(epoch: bytes, number: int, known: tuple[str, ...] = (), warming: bool = False) -> pb.WatchResponse:
    revision = pb.Revision(epoch=epoch, number=number)
    return pb.WatchResponse(snapshot_end=pb.SnapshotEnd(revision=revision, warming=warming, known_services=known))


def delta(prev: int, revision: int, upserts: Any = (), removals: Any = ()) -> pb.WatchResponse:
    return pb.WatchResponse(delta=pb.Delta(prev_revision=prev, revision=revision, upserts=upserts, removals=removals))


def gone(
    instance_id: str, service: str = "cart", incarnation: int = 1, reason: int = pb.REMOVAL_REASON_DEREGISTERED
) -> pb.Removal:
    return pb.Removal(
        namespace="default", service=service, instance_id=instance_id, incarnation=incarnation, reason=reason
    )


def progress(epoch: bytes, number: int, warming: bool = False) -> pb.WatchResponse:
    return pb.WatchResponse(progress=pb.Progress(revision=pb.Revision(epoch=epoch, number=number), warming=warming))


def reset(reason: int = pb.RESET_REASON_COMPACTED) -> pb.WatchResponse:
    return pb.WatchResponse(reset=pb.Reset(reason=reason))
