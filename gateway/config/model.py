"""The config's shape and rules, as frozen models; the words are those of GRPCRoute where it has one.

Every value is checked here, by building from it what it stands for: what a part refuses, the config refuses.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gateway.balancing.request_hash import AuthoritySource, HashSource, MetadataSource, SourceAddressSource
from gateway.balancing.ring_hash import DEFAULT_MAX_RING_SIZE, DEFAULT_MIN_RING_SIZE, MAX_RING_SIZE
from gateway.balancing.service import RING_HASH, PolicySpec
from gateway.routing.matchers import EXACT, PRESENT, HeaderMatch, TextMatcher, text_matcher
from gateway.routing.route import Match
from gateway.routing.target import TargetSpec

# The Gateway API's upper bound of a backend's weight.
MAX_WEIGHT = 1_000_000

HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
HOSTNAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
SERVICE_NAME = re.compile(r"[A-Za-z0-9._:-]{1,253}")  # as the registry has it
METADATA_NAME = re.compile(r"[a-z0-9_.-]+")  # PROTOCOL-HTTP2.md, "Header-Name"
EXACT_NAME = re.compile(r"[^\s/]+")


def at(key: str, text: str) -> PydanticCustomError:
    """A mistake in one key of the model that a model-wide check finds."""
    return PydanticCustomError("at", "{text}", {"text": text, "at": key})


def checked_address(value: str) -> str:
    """A ``host:port``; port 0 lets the system choose one."""
    found = HOST_PORT.fullmatch(value)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"{value!r} is not an address: write host:port, as in 127.0.0.1:8080 or [::1]:8080")
    return value


def checked_peer(value: str) -> str:
    """A ``host:port`` to dial."""
    if int(checked_address(value).rpartition(":")[2]) == 0:
        raise ValueError(f"{value!r} cannot be dialled: give the port that the registry listens on")
    return value


def checked_hostname(value: str) -> str:
    """A hostname in lower case, perhaps with ``*.`` in front."""
    lowered = value.lower()
    if HOSTNAME.fullmatch(lowered) is None:
        raise ValueError(f"{value!r} is not a hostname: write a name without a port, or *. and a name")
    return lowered


def checked_service_name(value: str) -> str:
    """A service's name in the registry."""
    if SERVICE_NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not a service name: use 1 to 253 characters of A-Z a-z 0-9 . _ : -")
    return value


def checked_metadata_name(value: str) -> str:
    """A metadata name in lower case."""
    lowered = value.lower()
    if METADATA_NAME.fullmatch(lowered) is None:
        raise ValueError(f"{value!r} is not a metadata name: use characters of a-z 0-9 . _ -")
    return lowered


def checked_route_name(value: str) -> str:
    """A route's name: anything but blank."""
    if not value.strip():
        raise ValueError("a route needs a name: it is what traces and logs call it")
    return value


Address = Annotated[str, AfterValidator(checked_address)]
PeerAddress = Annotated[str, AfterValidator(checked_peer)]
Hostname = Annotated[str, AfterValidator(checked_hostname)]
ServiceName = Annotated[str, AfterValidator(checked_service_name)]
MetadataName = Annotated[str, AfterValidator(checked_metadata_name)]
RouteName = Annotated[str, AfterValidator(checked_route_name)]
RingSize = Annotated[int, Field(ge=1, le=MAX_RING_SIZE)]


class Strict(BaseModel):
    """Takes no unknown key and converts no type: a number in a place for text is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HashOn(Strict):
    """One part of a request to hash; exactly one source."""

    metadata: MetadataName | None = None
    authority: Literal[True] | None = None
    source_address: Literal[True] | None = None
    terminal: bool = False

    @model_validator(mode="after")
    def check(self) -> Self:
        """Exactly one source, that can be hashed."""
        given = [source for source in (self.metadata, self.authority, self.source_address) if source is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of metadata: NAME, authority: true, source_address: true")
        self.source()
        return self

    def source(self) -> HashSource:
        """What it stands for."""
        if self.metadata is not None:
            return MetadataSource(self.metadata, self.terminal)
        return AuthoritySource(self.terminal) if self.authority else SourceAddressSource(self.terminal)


class BalancerConfig(Strict):
    """How a service's calls are spread over its instances."""

    policy: Literal["pick_first", "round_robin", "ring_hash"]
    hash_on: tuple[HashOn, ...] = ()
    min_ring_size: RingSize | None = None
    max_ring_size: RingSize | None = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """ring_hash and its options need each other."""
        if self.policy == RING_HASH:
            if not self.hash_on:
                raise at("policy", "ring_hash has nothing to hash: add hash_on, or use round_robin")
            spec = self.spec()
            if spec.min_ring_size > spec.max_ring_size:
                sizes = f"{spec.min_ring_size} is above max_ring_size ({spec.max_ring_size})"
                raise at("min_ring_size", f"{sizes}: raise the maximum or lower the minimum")
            return self
        for key in ("hash_on", "min_ring_size", "max_ring_size"):
            if key in self.model_fields_set:
                raise at(key, f"only ring_hash uses it, not {self.policy}: remove it, or set policy: ring_hash")
        return self

    def spec(self) -> PolicySpec:
        """What it stands for."""
        return PolicySpec(
            self.policy,
            [entry.source() for entry in self.hash_on],
            DEFAULT_MIN_RING_SIZE if self.min_ring_size is None else self.min_ring_size,
            DEFAULT_MAX_RING_SIZE if self.max_ring_size is None else self.max_ring_size,
        )


class ServiceConfig(Strict):
    """The gateway's policy for one service."""

    balancer: BalancerConfig | None = None


class MethodMatch(Strict):
    """A gRPC service, a method, or both; a regular expression must match the whole name."""

    service: str | None = None
    method: str | None = None
    type: Literal["Exact", "RegularExpression"] = "Exact"

    @model_validator(mode="after")
    def check(self) -> Self:
        """Something is asked for, and can be."""
        if self.service is None and self.method is None:
            raise ValueError("give service, method or both; to match every method, leave method out of the match")
        for key, text in (("service", self.service), ("method", self.method)):
            if text is None:
                continue
            if self.type == EXACT and EXACT_NAME.fullmatch(text) is None:
                example = "shop.Cart" if key == "service" else "Checkout"
                raise at(key, f"{text!r} is not a {key} name: write it without slashes, as in {example}")
            try:
                text_matcher(self.type, text)
            except ValueError as error:
                raise at(key, str(error)) from None
        return self

    def matcher(self, text: str | None) -> TextMatcher | None:
        """What one of its two names stands for."""
        return None if text is None else text_matcher(self.type, text)


class HeaderConfig(Strict):
    """A condition on one metadata name."""

    name: MetadataName
    value: str | None = None
    type: Literal["Exact", "Prefix", "RegularExpression", "Present"] = "Exact"
    invert: bool = False

    @model_validator(mode="after")
    def check(self) -> Self:
        """A value where one is compared, and nowhere else."""
        if self.type == PRESENT and self.value is not None:
            raise at("value", "type Present compares no value: remove the value, or use another type")
        if self.type != PRESENT and self.value is None:
            raise ValueError(f"type {self.type} needs a value: add one, or use type: Present")
        self.match()
        return self

    def match(self) -> HeaderMatch:
        """What it stands for."""
        value = None if self.value is None else text_matcher(self.type, self.value)
        return HeaderMatch(self.name, value, self.invert)


class MatchConfig(Strict):
    """Conditions that must all hold."""

    method: MethodMatch | None = None
    headers: tuple[HeaderConfig, ...] = ()

    def match(self) -> Match:
        """What it stands for."""
        headers = [header.match() for header in self.headers]
        if self.method is None:
            return Match(headers=headers)
        return Match(self.method.matcher(self.method.service), self.method.matcher(self.method.method), headers)


class BackendConfig(Strict):
    """Where a route's calls go: a service, or its instances with these labels; ``weight`` is the share of calls."""

    service: ServiceName
    subset: dict[str, str] = Field(default_factory=dict)
    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] = 1

    def target(self) -> TargetSpec:
        """What it stands for."""
        return TargetSpec(self.service, self.subset)


def checked_backends(value: tuple[BackendConfig, ...]) -> tuple[BackendConfig, ...]:
    """At least one backend that can get a call."""
    if not value:
        raise ValueError("a route needs a backend: add one, as in backends: [{service: NAME}]")
    if all(backend.weight == 0 for backend in value):
        raise ValueError("every weight is 0, so the calls could go nowhere: give one backend a weight above 0")
    return value


class RouteConfig(Strict):
    """Calls for any of the hostnames that pass any of the matches go to the backends; empty asks nothing."""

    name: RouteName
    hostnames: tuple[Hostname, ...] = ()
    matches: tuple[MatchConfig, ...] = ()
    backends: Annotated[tuple[BackendConfig, ...], AfterValidator(checked_backends)]


class Config(Strict):
    """A whole config file. ``listen``, ``registry`` and ``admin`` may be given by flags instead."""

    listen: Address | None = None
    registry: tuple[PeerAddress, ...] = ()
    admin: Address | None = None
    services: dict[ServiceName, ServiceConfig] = Field(default_factory=dict)
    routes: tuple[RouteConfig, ...] = ()
