"""The ``meshway`` command. Exit codes: 0 done, 1 failed, 2 wrong use or bad config."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway import is_compiled
from gateway.config import Config, ConfigError, load_config
from registry.cli import add_commands, run

DEFAULT_LISTEN = "127.0.0.1:8080"
DEFAULT_REGISTRY = "127.0.0.1:7500"

cli = typer.Typer(
    name="meshway",
    help="A gRPC-native mesh: a registry of leases, and a gateway that forwards calls to what is registered.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
config_cli = typer.Typer(help="Work with config files.", no_args_is_help=True)
cli.add_typer(config_cli, name="config")


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _version(wanted: bool) -> None:
    if wanted:
        built = "compiled with mypyc" if is_compiled() else "interpreted"
        print(f"meshway {version('meshway')} ({built}, Python {sys.version.split()[0]})")
        raise typer.Exit


@cli.callback()
def _root(
    wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version, and how it is built.")
    ] = False,
) -> None:
    """A gRPC-native mesh: a registry of leases, and a gateway that forwards calls to what is registered."""


@cli.command("gateway")
def gateway_command(
    listen: Annotated[str | None, typer.Option(help=f"Where clients dial.  [default: {DEFAULT_LISTEN}]")] = None,
    registry: Annotated[
        str | None, typer.Option(help=f"The registry, or several: H:P[,H:P].  [default: {DEFAULT_REGISTRY}]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Routes and policies (YAML); read again when it changes.")] = None,
    admin: Annotated[str | None, typer.Option(help="Serve /counters, /endpoints, /healthz and /readyz here.")] = None,
    drain_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds that calls under way get after SIGTERM.")
    ] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(help="How much to log to stderr.")] = LogLevel.INFO,
) -> None:
    """Forward gRPC calls to the instances that the registry lists.

    Calls to /pkg.Service/Method go to the service whose instances declared pkg.Service, unless a route says otherwise.
    """
    # Its C core tells of every lost connection on stderr; ours says what matters, once. Read when grpc is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from gateway.address import split_address
    from gateway.admin.http import AdminError
    from gateway.app import GatewayOptions, run_gateway
    from gateway.net.listener import ListenError
    from gateway.telemetry.setup import TelemetryError

    logging.basicConfig(
        level=log_level.value.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # tells of every event, also of those about other files
    try:
        loaded = Config() if config is None else load_config(config)
        registries = tuple(registry.split(",")) if registry else loaded.registry or (DEFAULT_REGISTRY,)
        options = GatewayOptions(
            listen=listen or loaded.listen or DEFAULT_LISTEN,
            registry=registries,
            admin=admin or loaded.admin,
            config_file=config,
            drain_timeout=drain_timeout,
        )
        for address in filter(None, (options.listen, *options.registry, options.admin)):
            split_address(address)
        code = _run(run_gateway(options, loaded, lambda line: print(line, flush=True)))
    except (ConfigError, ListenError, AdminError, TelemetryError, ValueError, OSError) as error:
        _refuse(str(error))
    raise typer.Exit(code)


def _run(main: Coroutine[Any, Any, int]) -> int:
    """On uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    code: int = uvloop.run(main)
    return code


@config_cli.command("validate")
def validate(file: Annotated[Path, typer.Argument(help="The config file.")]) -> None:
    """Check a config file; every mistake is named with its line."""
    try:
        loaded = load_config(file)
    except (ConfigError, OSError) as error:
        _refuse(str(error))
    print(f"{file}: good ({len(loaded.routes)} routes, {len(loaded.services)} services)")


@cli.command("health")
def health(
    address: Annotated[str, typer.Argument(help="The gateway, the registry, or any gRPC server: H:P.")],
    service: Annotated[str, typer.Argument(help="A service; empty asks for the server as a whole.")] = "",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait.")] = 5.0,
) -> None:
    """Ask grpc.health.v1. Exit code 0: serving; 4: not serving; 2: unreachable or unknown."""
    from gateway.admin.probe import probe

    code, text = probe(address, service, timeout)
    print(text, file=sys.stdout if code == 0 else sys.stderr)
    raise typer.Exit(code)


def _refuse(text: str) -> NoReturn:
    """One sentence (or one a mistake), and exit code 2."""
    print(f"meshway: {text}", file=sys.stderr)
    raise typer.Exit(2)


add_commands(cli)


def main() -> None:
    """The console script."""
    run(cli)


if __name__ == "__main__":
    main()
