"""Asks an instance for its protobuf files through server reflection: version 1, then 1alpha. Bounded in time and size.

The two versions differ in their package name alone, so one set of messages speaks both.
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from gateway.admin.descriptors import FileProto, extendable_messages, missing_imports

V1: Final = "grpc.reflection.v1.ServerReflection"
V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"

# A person waits for the answer (grpcurl); an instance that needs longer is hung or very far.
LEARN_TIMEOUT_S: Final = 3.0
# The largest public API (Google Cloud's) has about 5 MiB of descriptors; one service of a mesh has a few KiB.
MAX_LEARNED_BYTES: Final = 8 * 1024 * 1024
# One question for each file and each extendable message: a service with more than this is not one service.
MAX_QUESTIONS: Final = 2000

Request = reflection_pb2.ServerReflectionRequest

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_LEARNED_BYTES),
    ("grpc.enable_http_proxy", 0),  # instances are dialled directly, as the gateway's own calls are
]


class LearnError(Exception):
    """Why nothing could be learned, as the end of a sentence that starts with the service's name."""


class Learned:
    """What one instance told: the gRPC services that it lists, and their files."""

    def __init__(self, services: list[str], files: list[FileProto]) -> None:
        self.services = services
        self.files = files


async def learn(address: str, skip: Collection[str], timeout: float = LEARN_TIMEOUT_S) -> Learned:
    """All that the instance at this address reflects, except the services in ``skip``. Raises LearnError."""
    try:
        async with asyncio.timeout(timeout), aio.insecure_channel(address, options=_OPTIONS) as channel:
            version = await _version_of(channel)
            if version:
                return await _Conversation(channel, version).learn(skip)
    except aio.AioRpcError as error:
        raise LearnError(f"could not be asked at {address} ({error.details()})") from error
    except TimeoutError:
        raise LearnError(f"did not answer reflection at {address} within {timeout:g} s") from None
    except DecodeError as error:
        raise LearnError(f"answered reflection at {address} with a broken descriptor ({error})") from error
    raise LearnError("has neither reflection nor a descriptor set")


def parse_set(content: bytes) -> list[FileProto]:
    """The files of a serialized FileDescriptorSet. Raises LearnError."""
    try:
        return list(descriptor_pb2.FileDescriptorSet.FromString(content).file)
    except DecodeError as error:
        raise LearnError(f"registered a descriptor set that is broken ({error})") from error


async def _version_of(channel: aio.Channel) -> str:
    """The newest version that the server has, empty for none.

    Asked with a request that is complete at once. On a stream that is open for more, the refusal can cross the first
    question, and grpcio then reports INTERNAL in its place.
    """
    for version in (V1, V1ALPHA):
        call: aio.UnaryStreamCall[Any, Any] = channel.unary_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(Request(list_services="*"))
        try:
            await call.read()
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        else:
            return version
        finally:
            call.cancel()
    return ""


class _Conversation:
    """One reflection stream, question by question, so that all answers come from one server in one state."""

    def __init__(self, channel: aio.Channel, version: str) -> None:
        self._call: aio.StreamStreamCall[Any, Any] = channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        self._questions = 0
        self._bytes = 0
        self._files: dict[str, FileProto] = {}

    async def learn(self, skip: Collection[str]) -> Learned:
        """List the services, fetch the file of each, then what those files import and what extends their messages."""
        try:
            answer = await self._ask(Request(list_services="*"))
            listed = [service.name for service in answer.list_services_response.service]
            services = [name for name in listed if name not in skip]
            for name in services:
                self._take(await self._ask(Request(file_containing_symbol=name)))
            await self._fetch_imports()
            for name in extendable_messages(list(self._files.values())):
                await self._fetch_extensions(name)
            await self._fetch_imports()
        finally:
            self._call.cancel()
        return Learned(services, list(self._files.values()))

    async def _fetch_imports(self) -> None:
        asked: set[str] = set()
        while True:
            missing = missing_imports(self._files.values(), self._files.keys() | asked)
            if not missing:
                return
            for name in missing:
                asked.add(name)
                self._take(await self._ask(Request(file_by_filename=name)))

    async def _fetch_extensions(self, message: str) -> None:
        answer = await self._ask(Request(all_extension_numbers_of_type=message))
        for number in answer.all_extension_numbers_response.extension_number:
            extension = reflection_pb2.ExtensionRequest(containing_type=message, extension_number=number)
            self._take(await self._ask(Request(file_containing_extension=extension)))

    def _take(self, answer: Any) -> None:
        """Keep the files of an answer; one that is an error has none, and the rest is still worth having."""
        self._add(FileProto.FromString(content) for content in answer.file_descriptor_response.file_descriptor_proto)

    def _add(self, files: Iterable[FileProto]) -> None:
        for file in files:
            if file.name not in self._files:
                self._bytes += file.ByteSize()
                self._files[file.name] = file
        if self._bytes > MAX_LEARNED_BYTES:
            raise LearnError(f"reflects more than {MAX_LEARNED_BYTES // (1024 * 1024)} MiB of descriptors")

    async def _ask(self, request: Any) -> Any:
        self._questions += 1
        if self._questions > MAX_QUESTIONS:
            raise LearnError(f"needs more than {MAX_QUESTIONS} reflection questions")
        # When the stream has ended already, reading says why.
        with contextlib.suppress(asyncio.InvalidStateError):
            await self._call.write(request)
        answer = await self._call.read()
        if answer is aio.EOF:
            raise LearnError("ended its reflection stream early")
        return answer
