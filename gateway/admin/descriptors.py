"""Protobuf files by name, by symbol and by extension: what server reflection answers from. No I/O.

A pool holds the files of one service of the mesh. Pools are never merged: two services may well have built different
content under the same file name, and a client must get either the one or the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from google.protobuf import descriptor_pb2

FileProto = descriptor_pb2.FileDescriptorProto
MessageProto = descriptor_pb2.DescriptorProto

# Nested messages beyond this are not code that a person wrote (protobuf's own parsers stop at 100).
MAX_NESTING: Final = 100


class FilePool:
    """An immutable index of files. ``owner`` is the service of the mesh that they came from."""

    def __init__(self, owner: str, files: Iterable[FileProto]) -> None:
        self.owner = owner
        self.size = 0  # bytes, serialized
        self.services: list[str] = []  # every gRPC service that the files define
        self._files: dict[str, bytes] = {}
        self._imports: dict[str, list[str]] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[str, dict[int, str]] = {}
        for file in files:
            if file.name not in self._files:
                self._add(file)

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._files

    def file_of_symbol(self, symbol: str) -> str | None:
        """The file that defines a full name: a service, method, message, field, enum, enum value or extension."""
        return self._symbols.get(symbol)

    def file_of_extension(self, extendee: str, number: int) -> str | None:
        """The file that extends a message with this field number."""
        return self._extensions.get(extendee, {}).get(number)

    def extension_numbers(self, extendee: str) -> list[int] | None:
        """All known field numbers that extend a message, None when the message itself is unknown."""
        numbers = self._extensions.get(extendee)
        if numbers is None:
            return [] if extendee in self._symbols else None
        return sorted(numbers)

    def with_imports(self, name: str) -> list[bytes]:
        """A file and all that it imports, however deep, serialized; the file itself first."""
        found: dict[str, bytes] = {}
        pending = [name]
        while pending:
            current = pending.pop()
            content = self._files.get(current)
            if content is not None and current not in found:
                found[current] = content
                pending.extend(reversed(self._imports[current]))
        return list(found.values())

    def _add(self, file: FileProto) -> None:
        content = file.SerializeToString()
        self.size += len(content)
        self._files[file.name] = content
        self._imports[file.name] = list(file.dependency)
        prefix = f"{file.package}." if file.package else ""
        for name in _symbols(file, prefix):
            self._symbols.setdefault(name, file.name)
        self.services.extend(prefix + service.name for service in file.service)
        for extension in _extensions(file):
            extendee = extension.extendee.removeprefix(".")
            self._extensions.setdefault(extendee, {}).setdefault(extension.number, file.name)


def missing_imports(files: Iterable[FileProto], have: Iterable[str]) -> list[str]:
    """The imports of these files that are not among ``have``, once each, in order."""
    known = set(have)
    return list(dict.fromkeys(name for file in files for name in file.dependency if name not in known))


def extendable_messages(files: Iterable[FileProto]) -> list[str]:
    """The full names of messages that other files may extend; descriptor.proto's options are left out.

    Those are extended by every file with a custom option, which nobody looks up by number.
    """
    found: list[str] = []
    for file in files:
        if file.package == "google.protobuf":
            continue
        prefix = f"{file.package}." if file.package else ""
        found.extend(name for name, message in _messages(file.message_type, prefix, 0) if message.extension_range)
    return found


def _messages(messages: Sequence[MessageProto], prefix: str, depth: int) -> Iterator[tuple[str, MessageProto]]:
    for message in messages:
        name = prefix + message.name
        yield name, message
        if depth < MAX_NESTING:
            yield from _messages(message.nested_type, f"{name}.", depth + 1)


def _symbols(file: FileProto, prefix: str) -> Iterator[str]:
    for service in file.service:
        yield prefix + service.name
        for method in service.method:
            yield f"{prefix}{service.name}.{method.name}"
    for extension in file.extension:
        yield prefix + extension.name
    yield from _enum_symbols(file.enum_type, prefix)
    for name, message in _messages(file.message_type, prefix, 0):
        yield name
        for field in (*message.field, *message.extension):
            yield f"{name}.{field.name}"
        for oneof in message.oneof_decl:
            yield f"{name}.{oneof.name}"
        yield from _enum_symbols(message.enum_type, f"{name}.")


def _enum_symbols(enums: Iterable[descriptor_pb2.EnumDescriptorProto], prefix: str) -> Iterator[str]:
    for enum in enums:
        yield prefix + enum.name
        for value in enum.value:
            # Values are siblings of their enum, as in C++; some tools ask for them as its children.
            yield prefix + value.name
            yield f"{prefix}{enum.name}.{value.name}"


def _extensions(file: FileProto) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    yield from file.extension
    for _name, message in _messages(file.message_type, "", 0):
        yield from message.extension
