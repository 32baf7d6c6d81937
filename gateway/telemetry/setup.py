"""From the OTEL_* environment variables to a recorder.

The SDK reads the resource, the sampler and the exporter's own settings; what its autoconfiguration would decide (which
exporter, which protocol, whether at all) is decided here.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.model import Recorder
from gateway.telemetry.propagation import CompositePropagation, ForeignPropagation, Propagation, W3CPropagation

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.sampling import Sampler

    from gateway.telemetry.senders import Sender
    from gateway.telemetry.tracing import Sampling

DEFAULT_SERVICE_NAME: Final = "meshway-gateway"

# The SDK's own defaults for its batch processor. Sizes are in spans; a call has two.
DEFAULT_QUEUE_SPANS: Final = 2048
DEFAULT_BATCH_SPANS: Final = 512
DEFAULT_DELAY_MS: Final = 5000
SPANS_PER_CALL: Final = 2

# The port where collectors listen for OTLP over HTTP; gRPC has 4317.
OTLP_HTTP_PORT: Final = 4318

_FILES: Final = [
    f"OTEL_EXPORTER_OTLP_{signal}{kind}"
    for signal in ("", "TRACES_")
    for kind in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
]
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")


class TelemetryError(Exception):
    """A setting that cannot work, as one sentence for the person who made it."""


def monotonic_wall_offset_ns() -> int:
    """What to add to ``time.monotonic`` (which both event loops use) to get Unix time, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def build_recorder(
    environ: Mapping[str, str], wall_offset_ns: Callable[[], int] = monotonic_wall_offset_ns
) -> Recorder:
    """The recorder that these variables ask for; the base class when they ask for none.

    Starts the export thread, so build it after a fork. A TraceRecorder must be closed. Raises TelemetryError.
    """
    settings = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_") and value.strip()}
    if settings.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Recorder()
    propagation = _propagation(settings)
    kind = _exporter_kind(settings)
    if kind == "none":
        return Recorder()
    capacity = _positive(settings, "OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SPANS)
    batch = _positive(settings, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", DEFAULT_BATCH_SPANS)
    delay_ms = _positive(settings, "OTEL_BSP_SCHEDULE_DELAY", DEFAULT_DELAY_MS)

    # Only now: nobody without traces pays for loading the SDK.
    from gateway.telemetry.export import ExportQueue
    from gateway.telemetry.tracing import TraceRecorder

    with _process_environment(settings):
        resource, sampler = _resource_and_sampler()
        sender = _sender(kind, settings, resource, wall_offset_ns)
    queue = ExportQueue(
        sender,
        capacity=max(1, capacity // SPANS_PER_CALL),
        batch=max(1, batch // SPANS_PER_CALL),
        delay=delay_ms / 1000,
    )
    return TraceRecorder(propagation, sampling_of(sampler), queue)


def sampling_of(sampler: "Sampler") -> "Sampling":
    """The same decisions as one of the SDK's samplers that OTEL_TRACES_SAMPLER can name, without its cost."""
    from opentelemetry.sdk.trace import sampling as sdk

    from gateway.telemetry.tracing import ALWAYS, NEVER, Sampling

    if sampler is sdk.ALWAYS_ON:
        return Sampling(ALWAYS, parent_based=False)
    if sampler is sdk.ALWAYS_OFF:
        return Sampling(NEVER, parent_based=False)
    if sampler is sdk.DEFAULT_OFF:
        return Sampling(NEVER, parent_based=True)
    if isinstance(sampler, sdk.TraceIdRatioBased):
        return Sampling(sampler.bound, parent_based=False)
    if isinstance(sampler, sdk.ParentBasedTraceIdRatio):
        root = sampler._root
        if isinstance(root, sdk.TraceIdRatioBased):
            return Sampling(root.bound, parent_based=True)
    return Sampling(ALWAYS, parent_based=True)


def _exporter_kind(settings: Mapping[str, str]) -> str:
    """ "otlp", "console" or "none". Without a word about exporters, an endpoint is what asks for traces."""
    kind = settings.get("OTEL_TRACES_EXPORTER", "").lower()
    if not kind:
        has_endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT" in settings or "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in settings
        return "otlp" if has_endpoint else "none"
    if kind not in ("otlp", "console", "none"):
        raise TelemetryError(f"OTEL_TRACES_EXPORTER is {kind!r}; it can be otlp, console or none.")
    return kind


def _sender(
    kind: str, settings: Mapping[str, str], resource: "Resource", wall_offset_ns: Callable[[], int]
) -> "Sender":
    from gateway.telemetry.pack import SpanPacker
    from gateway.telemetry.senders import GrpcSender, HttpSender, SpanSender
    from gateway.telemetry.spans import SpanBuilder

    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return SpanSender(ConsoleSpanExporter(), SpanBuilder(resource, _version(), wall_offset_ns).build)
    _check_otlp(settings)
    pack = SpanPacker(resource, _version(), wall_offset_ns).pack
    sender = GrpcSender if _protocol(settings) == "grpc" else HttpSender
    try:
        return sender(pack)
    except Exception as error:
        # Whatever else the exporter dislikes about its variables: it names them in many kinds of exception.
        raise TelemetryError(f"The OTLP exporter refuses its OTEL_EXPORTER_OTLP_* settings: {error}.") from error


def _check_otlp(settings: Mapping[str, str]) -> None:
    """Refuse what the exporters would only log (a missing file) or say badly (a timeout that is no number)."""
    for name in _FILES:
        if name in settings and not Path(settings[name]).is_file():
            raise TelemetryError(f"{name} names {settings[name]!r}, which is not a file that can be read.")
    for name in _TIMEOUTS:
        if name in settings:
            try:
                float(settings[name])
            except ValueError:
                raise TelemetryError(f"{name} is {settings[name]!r}, which is not a number of seconds.") from None


def _protocol(settings: Mapping[str, str]) -> str:
    """The OTLP protocol named, else HTTP for an endpoint at its usual port, else gRPC."""
    protocol = settings.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or settings.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol is None:
        endpoint = settings.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or settings.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        return "http/protobuf" if _port(endpoint) == OTLP_HTTP_PORT else "grpc"
    if protocol not in ("grpc", "http/protobuf"):
        raise TelemetryError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; it can be grpc or http/protobuf.")
    return protocol


def _port(endpoint: str) -> int | None:
    try:
        return urlsplit(endpoint).port
    except ValueError:
        raise TelemetryError(f"The OTLP endpoint {endpoint!r} is not a URL such as http://localhost:4317.") from None


def _propagation(settings: Mapping[str, str]) -> Propagation:
    names = [name.strip() for name in settings.get("OTEL_PROPAGATORS", "tracecontext").split(",")]
    if "none" in names:
        return Propagation()
    # Baggage passes through a proxy as it is: there is nothing to do for it.
    parts = [_propagator(name) for name in dict.fromkeys(names) if name and name != "baggage"]
    if len(parts) == 1:
        return parts[0]
    return CompositePropagation(parts) if parts else Propagation()


def _propagator(name: str) -> Propagation:
    if name == "tracecontext":
        return W3CPropagation()
    found = list(entry_points(group="opentelemetry_propagator", name=name))
    if not found:
        raise TelemetryError(
            f"OTEL_PROPAGATORS names {name!r}, which is misspelled or not installed "
            "(b3 and b3multi come with the package opentelemetry-propagator-b3)."
        )
    return ForeignPropagation(found[0].load()())


def _positive(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise TelemetryError(f"{name} is {text!r}; it takes a whole number above 0.")
    return int(text)


def _resource_and_sampler() -> "tuple[Resource, Sampler]":
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    resource = provider.resource
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    if SERVICE_VERSION not in resource.attributes:
        resource = resource.merge(Resource({SERVICE_VERSION: _version()}))
    return resource, provider.sampler


def _version() -> str:
    try:
        return version("meshway")
    except PackageNotFoundError:
        return "0"


@contextmanager
def _process_environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Let the SDK's parts, which read ``os.environ`` as they are built, see exactly these OTEL_ settings.

    Without the empty ones: the specification calls them unset, and the SDK's exporters fail on them.
    """
    saved = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    for name in saved:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
        os.environ.update(saved)
