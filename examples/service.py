"""What every example service shares: options, a grpc.aio server with health and reflection, a lease, a clean end."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from registry.client import Registration

# How long open calls may go on after SIGTERM, in seconds.
STOP_GRACE = 5.0


@dataclass(frozen=True)
class Identity:
    """Who this instance is, and where it finds the others: ``mesh`` is the gateway's address."""

    service: str
    instance: str
    version: str
    mesh: str


def run(service: str, grpc_service: str, add: Callable[[aio.Server, Identity], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``add`` puts the servicer of ``grpc_service`` on the server."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser(service).parse_args(), service, grpc_service, add))


def parser(service: str) -> argparse.ArgumentParser:
    """The options of every example service."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{service}")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port to serve on (port 0: any free one)")
    parser.add_argument("--version", default="v1", help="told in every answer, and the label of the lease")
    parser.add_argument("--instance", help="name of this instance (default: the service's name and port)")
    parser.add_argument("--mesh", default="127.0.0.1:8080", help="the gateway, for calls to other services")
    parser.add_argument("--registry", help="register here: host:port[,host:port] (default: register nowhere)")
    parser.add_argument("--ttl", type=float, default=15.0, help="life of the lease without a heartbeat, in seconds")
    parser.add_argument("--advertise", help="host the gateway should dial (default: the host of --listen)")
    return parser


async def _serve(
    options: argparse.Namespace, service: str, grpc_service: str, add: Callable[[aio.Server, Identity], None]
) -> None:
    server = aio.server()
    host = options.listen.rpartition(":")[0]
    port = server.add_insecure_port(options.listen)
    identity = Identity(service, options.instance or f"{service}-{port}", options.version, options.mesh)
    add(server, identity)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((grpc_service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await server.start()
    for name in ("", grpc_service):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    print(f"{identity.instance} ({service} {identity.version}) listening on {host}:{port}", flush=True)
    async with contextlib.AsyncExitStack() as stack:
        if options.registry:
            await stack.enter_async_context(
                Registration(
                    registry=options.registry,
                    service=service,
                    address=f"{options.advertise or host}:{port}",
                    instance_id=identity.instance,
                    grpc_services=[grpc_service],
                    labels={"version": identity.version},
                    ttl=options.ttl,
                )
            )
        await stop_signal()
    # The lease is gone, so no new calls come; those under way may end.
    await checks.enter_graceful_shutdown()
    await server.stop(STOP_GRACE)


async def stop_signal() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
