"""One heartbeat stream by itself."""

import asyncio
import gc
import weakref
from random import Random

import grpc.aio
import pytest
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.errors import RegistryError
from registry.client.heartbeat import BeatSource, HeartbeatStream
from registry.client.record import Grant


class EndedCall:
    """A call that the registry has ended."""

    async def read(self) -> object:
        return grpc.aio.EOF

    async def write(self, request: pb.KeepAliveRequest) -> None:
        raise asyncio.InvalidStateError

    def cancel(self) -> None:
        pass


async def test_a_failed_stream_is_not_kept_by_its_own_failure() -> None:
    grant = Grant(b"lease", 1, ttl=3.0, interval=1.0, epoch=b"epoch", revision=1)
    calls = [EndedCall()]
    gone = weakref.ref(calls[0])
    gc.disable()  # what a cycle keeps, is kept until the collector happens to run
    try:
        with pytest.raises(RegistryError, match="the registry at a:1 ended the heartbeat stream"):
            await HeartbeatStream(calls.pop(), "a:1", grant, BeatSource(), Random(1)).run(0.0)
        assert gone() is None
    finally:
        gc.enable()
