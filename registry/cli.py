"""The registry's commands: ``registry``, ``register``, ``services`` and ``instances``.

Exit codes: 0 done, 1 failed, 2 wrong use or bad config, each failure with one sentence on stderr.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

DEFAULT_LISTEN = "127.0.0.1:7500"
LONGEST_TTL = 300.0  # seconds: the longest lease that a registry grants
MAX_SECONDS = 1e9  # thirty years fit into every field; the registry shortens what is too long for it

_T = TypeVar("_T")


class Output(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


RegistryOption = Annotated[str, typer.Option(help="The registry, or several: H:P[,H:P].", metavar="H:P")]
NamespaceOption = Annotated[str, typer.Option(help="The namespace; empty means the default one.", metavar="NAME")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table for people, JSON for programs.")]


def add_commands(app: typer.Typer) -> None:
    """Add the registry's commands to a command-line program."""
    app.command("registry", epilog="Example: meshway registry --listen 127.0.0.1:7500")(registry_command)
    app.command(
        "register",
        epilog="Example: meshway register --service cart --address 127.0.0.1:50051 -- ./cart --port 50051",
        # So that COMMAND's own flags are its own, with or without "--" before it.
        context_settings={"allow_interspersed_args": False},
    )(register_command)
    app.command("services", epilog="Example: meshway services -o json")(services_command)
    app.command("instances", epilog="Example: meshway instances cart")(instances_command)


def run(app: typer.Typer) -> NoReturn:
    """Run a command-line program; wrong use is one sentence on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        # Several lines are a help text, which is what a command group without a command answers.
        said = error.format_message()
        print(said if "\n" in said else f"meshway: {said.rstrip('.')}. See --help.", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def registry_command(
    listen: Annotated[str, typer.Option(help="Where services and gateways reach it.", metavar="H:P")] = DEFAULT_LISTEN,
    min_ttl: Annotated[
        float,
        typer.Option(
            min=0.1, max=LONGEST_TTL, help="The shortest lease in seconds; shorter wishes get this.", metavar="S"
        ),
    ] = 3.0,
    allow_local_addresses: Annotated[
        bool,
        typer.Option("--allow-local-addresses", help="Let other machines register loopback and link-local addresses."),
    ] = False,
) -> None:
    """Run the registry: it grants leases to instances, and tells gateways of every change.

    It ends with SIGTERM or Ctrl-C.
    """
    from registry.errors import ListenError
    from registry.server import RegistryOptions, serve_registry

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    def ready(address: str) -> None:
        print(f"registry listening on {address}", flush=True)

    try:
        options = RegistryOptions(
            listen=listen, min_ttl_ms=round(min_ttl * 1000), allow_local_addresses=allow_local_addresses
        )
        code = asyncio.run(serve_registry(options, ready))
    except (ListenError, ValueError) as error:
        _fail("registry", str(error), 2)
    raise typer.Exit(code)


def register_command(
    service: Annotated[str, typer.Option(help="The service that the instance belongs to.", metavar="NAME")],
    address: Annotated[str, typer.Option(help="Where the instance takes calls.", metavar="H:P")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Start this and hold the lease until it exits.", metavar="-- COMMAND"),
    ] = None,
    registry: RegistryOption = DEFAULT_LISTEN,
    grpc_service: Annotated[
        list[str] | None,
        typer.Option(
            help="A gRPC service that it serves, as pkg.Service; repeat for more. Without any: by server reflection.",
            metavar="PKG.SVC",
        ),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label; repeat for more.", metavar="K=V")] = None,
    weight: Annotated[int, typer.Option(min=0, max=65535, help="Its share of calls; 0 gets none.", metavar="N")] = 1,
    ttl: Annotated[
        float, typer.Option(min=0.001, max=MAX_SECONDS, help="Seconds that its lease outlives it.", metavar="S")
    ] = 15.0,
    instance_id: Annotated[str | None, typer.Option(help="Its name; made up if not given.", metavar="ID")] = None,
    namespace: NamespaceOption = "",
    descriptor_set: Annotated[
        Path | None,
        typer.Option(help="A serialized FileDescriptorSet, for the gateway's reflection.", metavar="FILE"),
    ] = None,
    drain_time: Annotated[
        float,
        typer.Option(
            min=0.0, max=MAX_SECONDS, help="Seconds without new calls before COMMAND is told to stop.", metavar="S"
        ),
    ] = 1.0,
    start_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for the service to come up and be well.", metavar="S")
    ] = 30.0,
    wait_for_registry: Annotated[
        bool, typer.Option("--wait-for-registry", help="Keep trying when no registry answers at the start.")
    ] = False,
) -> None:
    """Register an instance, in any language, and hold its lease until COMMAND exits or a signal comes.

    Waits until the address accepts connections and its health check, if it has one, says SERVING. On SIGTERM or
    Ctrl-C: drains, passes the signal to COMMAND, and deregisters when it has exited; a second signal is passed at
    once. The exit code is COMMAND's, or 128+n if a signal ended it.
    """
    _quiet_logs()
    from registry.client import parse_addresses, split_address
    from registry.register_command import RegisterCommand, RegisterOptions

    try:
        split_address(address)
        parse_addresses(registry)  # before COMMAND is started for nothing
        options = RegisterOptions(
            registry=registry,
            service=service,
            address=address,
            instance_id=instance_id,
            grpc_services=tuple(grpc_service or ()),
            labels=_labels(label or []),
            weight=weight,
            ttl=ttl,
            namespace=namespace,
            descriptor_set=_descriptor_set(descriptor_set),
            drain_time=drain_time,
            start_timeout=start_timeout,
            wait_for_registry=wait_for_registry,
            command=tuple(command or ()),
        )
    except ValueError as error:
        _fail("register", str(error), 2)

    def say(sentence: str) -> None:
        print(f"meshway register: {sentence}", file=sys.stderr, flush=True)

    raise typer.Exit(asyncio.run(RegisterCommand(options, say).run()))


def services_command(
    registry: RegistryOption = DEFAULT_LISTEN, namespace: NamespaceOption = "", output: OutputOption = Output.TABLE
) -> None:
    """List the services with their instances by state, and the gRPC services that they declare."""
    _quiet_logs()
    from registry.client import RegistryClient, ServiceSummary
    from registry.tables import service_json, service_rows, show, show_json

    async def ask() -> tuple[ServiceSummary, ...]:
        async with RegistryClient(registry) as client:
            return await client.list_services(namespace)

    services = _ask("services", ask())
    if output is Output.JSON:
        show_json(sys.stdout, [service_json(one) for one in services])
    else:
        headings = ("SERVICE", "READY", "NOT READY", "DRAINING", "SUSPECT", "GRPC SERVICES")
        show(sys.stdout, headings, service_rows(services))


def instances_command(
    service: Annotated[str | None, typer.Argument(help="Only this service's.", metavar="SERVICE")] = None,
    registry: RegistryOption = DEFAULT_LISTEN,
    namespace: NamespaceOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """List the instances with their addresses, states and labels."""
    _quiet_logs()
    from registry.client import Instance
    from registry.tables import instance_json, instance_rows, show, show_json

    instances: tuple[Instance, ...] = _ask("instances", _instances(registry, namespace, service))
    if output is Output.JSON:
        show_json(sys.stdout, [instance_json(one) for one in instances])
    else:
        headings = ("SERVICE", "INSTANCE", "ADDRESS", "STATE", "WEIGHT", "LABELS", "REASON")
        show(sys.stdout, headings, instance_rows(instances))


async def _instances(registry: str, namespace: str, service: str | None) -> tuple[Any, ...]:
    """One service's instances, or everybody's."""
    from registry.client import RegistryClient

    async with RegistryClient(registry) as client:
        if service is None:
            return (await client.snapshot(namespace)).instances
        return (await client.resolve(service, namespace)).instances


def _ask(command: str, question: Coroutine[Any, Any, _T]) -> _T:
    """The answer, or an exit with one sentence."""
    from registry.client import RegistryError

    try:
        return asyncio.run(question)
    except RegistryError as error:
        _fail(command, str(error), 1)
    except ValueError as error:
        _fail(command, str(error), 2)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"bad label {pair!r}: expected KEY=VALUE")
        labels[key] = value
    return labels


def _descriptor_set(file: Path | None) -> bytes:
    """The bytes of a FileDescriptorSet file; ValueError if it is none."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    if file is None:
        return b""
    try:
        content = file.read_bytes()
        files = FileDescriptorSet.FromString(content).file
    except OSError as error:
        raise ValueError(f"cannot read the descriptor set {file}: {error.strerror}") from None
    except DecodeError:
        files = None
    if not files:
        raise ValueError(f"{file} is no descriptor set: make one with protoc --include_imports --descriptor_set_out")
    return content


def _quiet_logs() -> None:
    """The command says itself what the client and gRPC (as long as it is not loaded yet) would log."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("registry.client").addHandler(logging.NullHandler())


def _fail(command: str, sentence: str, code: int) -> NoReturn:
    """One sentence on stderr, and the exit code."""
    print(f"meshway {command}: {sentence.rstrip('.')}.", file=sys.stderr)
    raise typer.Exit(code)
