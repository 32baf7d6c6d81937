"""Server reflection, versions 1 and 1alpha, merged over the mesh.

One stream sees one state of the mesh: what was known at its first question. Every question is answered from the pool
of a single service, and follow-up questions from the same one, because two services may have different files of the
same name.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.admin.descriptors import FilePool, FileProto
from gateway.admin.learn import V1, V1ALPHA
from gateway.admin.library import Entry

HEALTH: Final = "grpc.health.v1.Health"
OWN_SERVICES: Final = [HEALTH, V1, V1ALPHA]

_HOW_TO_GIVE_ONE: Final = (
    "turn server reflection on in its instances, or register them with a descriptor set "
    "(protoc --include_imports --descriptor_set_out=FILE)"
)


def own_pool() -> FilePool:
    """The files of the gateway's own services."""
    health, alpha = FileProto(), FileProto()
    health_pb2.DESCRIPTOR.CopyToProto(health)
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    return FilePool("", [health, alpha, _version_1(alpha)])


def _version_1(alpha: FileProto) -> FileProto:
    """The file of version 1, which no package brings: the same messages under another package name."""
    file = FileProto()
    file.CopyFrom(alpha)
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    file.ClearField("options")
    return file


class MeshReflection:
    """Answers the questions of one stream. No I/O."""

    def __init__(self, own: FilePool, entries: Sequence[Entry]) -> None:
        self._own = own
        self._entries = entries
        self._last: FilePool | None = None

    def answer(self, request: Any) -> Any:
        """The response to one question; what is unknown is an error response, never the end of the stream."""
        response = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            self._list(response)
        elif kind == "file_by_filename":
            self._file(response, request.file_by_filename)
        elif kind == "file_containing_symbol":
            self._symbol(response, request.file_containing_symbol.removeprefix("."))
        elif kind == "file_containing_extension":
            self._extension(response, request.file_containing_extension)
        elif kind == "all_extension_numbers_of_type":
            self._extension_numbers(response, request.all_extension_numbers_of_type.removeprefix("."))
        else:
            _fail(response, grpc.StatusCode.INVALID_ARGUMENT, "The request asks for nothing.")
        return response

    def _list(self, response: Any) -> None:
        names = set(OWN_SERVICES).union(*(entry.grpc_services for entry in self._entries))
        for name in sorted(names):
            response.list_services_response.service.add(name=name)

    def _file(self, response: Any, name: str) -> None:
        for pool in self._pools(""):
            if pool.has_file(name):
                self._give(response, pool, name)
                return
        _not_found(response, f"No service of the mesh has a file {name!r}.")

    def _symbol(self, response: Any, symbol: str) -> None:
        for pool in self._pools(symbol):
            file = pool.file_of_symbol(symbol)
            if file is not None:
                self._give(response, pool, file)
                return
        for entry in self._entries:
            if entry.pool is None and _serves(entry, symbol):
                # Not NOT_FOUND: tools replace its text with "symbol not found", and the reason would be lost.
                sentence = f"Service {entry.service!r} {entry.reason}: {_HOW_TO_GIVE_ONE}."
                _fail(response, grpc.StatusCode.FAILED_PRECONDITION, sentence)
                return
        _not_found(response, f"No service of the mesh defines {symbol!r}.")

    def _extension(self, response: Any, wanted: Any) -> None:
        extendee = wanted.containing_type.removeprefix(".")
        for pool in self._pools(extendee):
            file = pool.file_of_extension(extendee, wanted.extension_number)
            if file is not None:
                self._give(response, pool, file)
                return
        _not_found(response, f"No service of the mesh extends {extendee!r} with number {wanted.extension_number}.")

    def _extension_numbers(self, response: Any, extendee: str) -> None:
        for pool in self._pools(extendee):
            numbers = pool.extension_numbers(extendee)
            if numbers is not None:
                self._last = pool
                response.all_extension_numbers_response.base_type_name = extendee
                response.all_extension_numbers_response.extension_number.extend(numbers)
                return
        _not_found(response, f"No service of the mesh defines {extendee!r}.")

    def _give(self, response: Any, pool: FilePool, file: str) -> None:
        self._last = pool
        response.file_descriptor_response.file_descriptor_proto.extend(pool.with_imports(file))

    def _pools(self, symbol: str) -> list[FilePool]:
        """Where to look, in order: what the gateway itself serves, who serves the symbol, who answered last, the rest.

        A file name has no owner, so the pool of the answer before comes first for it (an empty symbol).
        """
        pools = [entry.pool for entry in self._entries if entry.pool is not None and _serves(entry, symbol)]
        if self._last is not None:
            pools.append(self._last)
        pools.append(self._own)
        pools.extend(entry.pool for entry in self._entries if entry.pool is not None)
        if self._own.file_of_symbol(symbol) is not None:
            pools.insert(0, self._own)
        return pools


def _serves(entry: Entry, symbol: str) -> bool:
    """Whether the symbol is one of the entry's gRPC services, or a method of one."""
    return symbol in entry.grpc_services or symbol.rpartition(".")[0] in entry.grpc_services


def _not_found(response: Any, sentence: str) -> None:
    _fail(response, grpc.StatusCode.NOT_FOUND, sentence)


def _fail(response: Any, code: grpc.StatusCode, sentence: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = sentence


class ReflectionServicer:
    """The one stream method of both versions. ``entries`` learns what is not known yet."""

    def __init__(self, entries: Callable[[], Awaitable[list[Entry]]]) -> None:
        self._entries = entries
        self._own = own_pool()

    async def ServerReflectionInfo(  # noqa: N802
        self, requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Question by question, in order, from what is known at the first one."""
        mesh: MeshReflection | None = None
        async for request in requests:
            if mesh is None:
                mesh = MeshReflection(self._own, await self._entries())
            yield mesh.answer(request)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The same method under both names: the versions' messages are equal on the wire."""
        method = grpc.stream_stream_rpc_method_handler(
            self.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(version, {"ServerReflectionInfo": method}) for version in (V1, V1ALPHA)
        ]
