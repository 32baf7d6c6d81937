import pytest
from meshway.registry.v1 import registry_pb2 as pb

from registry import validate
from registry.addresses import is_local_peer
from registry.errors import Reason, RegistryError


def request(**fields) -> pb.RegisterRequest:
    spec = {"service": "cart", "instance_id": "a", "addresses": ["10.0.0.1:80"]}
    of_request = {key: fields.pop(key) for key in list(fields) if key in pb.RegisterRequest.DESCRIPTOR.fields_by_name}
    return pb.RegisterRequest(instance=pb.InstanceSpec(**spec | fields), **{"boot_id": b"b" * 16} | of_request)


def field_refused(bad: pb.RegisterRequest, local: bool = True) -> tuple[str, Reason]:
    with pytest.raises(RegistryError) as caught:
        validate.registration(bad, local)
    assert caught.value.field in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value.field, caught.value.reason


def test_defaults():
    wish = validate.registration(request(), False)
    assert wish.spec.name == ("default", "cart", "a")
    assert wish.spec.weight == 1
    assert wish.ttl_ms is None
    assert wish.ready
    assert wish.spec.descriptor_digest == ""


def test_equal_content_is_equal_whatever_its_order():
    labels = {f"k{n}": str(n) for n in range(20)}
    backwards = dict(reversed(labels.items()))
    assert validate.registration(request(labels=labels), True) == validate.registration(request(labels=backwards), True)
    twice = request(addresses=["a:1", "b:2", "a:1"], grpc_services=["p.S", "p.S"])
    assert validate.registration(twice, True).spec.addresses == ("a:1", "b:2")
    assert validate.registration(twice, True).spec.grpc_services == ("p.S",)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"service": ""}, "instance.service"),
        ({"service": "a b"}, "instance.service"),
        ({"service": "a\n"}, "instance.service"),
        ({"service": "ü"}, "instance.service"),
        ({"service": "s" * 254}, "instance.service"),
        ({"namespace": "a/b"}, "instance.namespace"),
        ({"instance_id": ""}, "instance.instance_id"),
        ({"instance_id": "i" * 129}, "instance.instance_id"),
        ({"instance_id": "\U0001f600" * 128}, "instance.instance_id"),
        ({"addresses": []}, "instance.addresses"),
        ({"addresses": [f"h:{n}" for n in range(1, 10)]}, "instance.addresses"),
        ({"grpc_services": ["a..b"]}, "instance.grpc_services[0]"),
        ({"grpc_services": ["ok.S", "a/b"]}, "instance.grpc_services[1]"),
        ({"grpc_services": [f"p.S{n}" for n in range(257)]}, "instance.grpc_services"),
        ({"labels": {str(n): "" for n in range(65)}}, "instance.labels"),
        ({"labels": {"": "v"}}, "instance.labels"),
        ({"labels": {"k": "v" * 16 * 1024}}, "instance.labels"),
        ({"labels": {"k": "ü" * 8 * 1024}}, "instance.labels"),
        ({"weight": 65_536}, "instance.weight"),
        ({"descriptor_set": b"\xff\xff"}, "instance.descriptor_set"),
        ({"descriptor_set": b"\x12\x01x"}, "instance.descriptor_set"),
        ({"descriptor_set": b"x" * (512 * 1024 + 1)}, "instance.descriptor_set"),
        ({"boot_id": b""}, "boot_id"),
        ({"boot_id": b"b" * 17}, "boot_id"),
        ({"ttl_ms": 0}, "ttl_ms"),
        ({"ttl_ms": -(2**63)}, "ttl_ms"),
        ({"request_id": "r" * 129}, "request_id"),
        ({"not_ready_reason": "r" * 1025}, "not_ready_reason"),
    ],
)
def test_a_bad_field_is_named(fields, field):
    assert field_refused(request(**fields)) == (field, Reason.INVALID_FIELD)


@pytest.mark.parametrize(
    "fields",
    [
        {"service": "s" * 253},
        {"instance_id": "A-z.0_9:" * 16},
        {"namespace": "prod"},
        {"addresses": [f"h:{n}" for n in range(1, 9)]},
        {"grpc_services": ["S", "pkg.v1.Svc_2"]},
        {"labels": {"k": "v" * (16 * 1024 - 1)}},
        {"weight": 0},
        {"weight": 65_535},
        {"ttl_ms": 2**63 - 1},
        {"descriptor_set": b"\x0a\x07\x0a\x05a.pro"},
    ],
)
def test_the_limits_themselves_are_good(fields):
    validate.registration(request(**fields), True)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:1", "10.0.0.1:65535", "[2001:db8::1]:80", "cart.shop.svc:8080", "host.:80", "my_container:80"],
)
def test_good_addresses(address):
    assert validate.registration(request(addresses=[address]), False).spec.addresses == (address,)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        ":80",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:٣",
        "10.0.0.1:80 ",
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "255.255.255.255:80",
        "::1:80",
        "[10.0.0.1:80",
        "[nonsense]:80",
        "10.0.0.256:80",
        "127.1:80",
        "http://host:80",
        "-host:80",
        "ho..st:80",
        "h" * 64 + ":80",
        ".".join(["h" * 60] * 5) + ":80",
        "x" * 100_000 + ":0",
        "\U0001f600" * 1000,
    ],
)
def test_bad_addresses(address):
    assert field_refused(request(addresses=["good:1", address])) == ("instance.addresses[1]", Reason.INVALID_FIELD)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:80",
        "127.8.9.1:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "169.254.1.1:80",
        "[fe80::1]:80",
        "[fe80::1%eth0]:80",
        "localhost:80",
        "LOCALHOST.:80",
        "a.localhost:80",
    ],
)
def test_local_addresses_are_for_local_peers(address):
    bad = request(addresses=[address])
    assert field_refused(bad, local=False) == ("instance.addresses[0]", Reason.ADDRESS_NOT_REACHABLE)
    assert validate.registration(bad, True).spec.addresses == (address,)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", True),
        ("unix:/run/x", True),
        ("unix:", True),
        ("ipv4:10.0.0.1:4711", False),
        ("ipv6:%5B2001:db8::1%5D:4711", False),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_who_is_local(peer, local):
    assert is_local_peer(peer) == local


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (pb.UpdateRequest(), "fields"),
        (pb.UpdateRequest(fields=["weight", "service"]), "fields[1]"),
        (pb.UpdateRequest(fields=["x" * 100_000]), "fields[0]"),
        (pb.UpdateRequest(fields=["addresses"]), "instance.addresses"),
        (pb.UpdateRequest(fields=["weight"], instance=pb.InstanceSpec(weight=70_000)), "instance.weight"),
    ],
)
def test_a_bad_update_names_its_field(bad, field):
    with pytest.raises(RegistryError) as caught:
        validate.patch(bad, True)
    assert caught.value.field == field


def test_an_update_takes_the_named_fields_only():
    spec = pb.InstanceSpec(weight=4, addresses=["nonsense"], labels={"k": "v"})
    patch = validate.patch(pb.UpdateRequest(lease_id=b"l", fields=["weight", "labels"], instance=spec), True)
    assert patch.weight == 4
    assert patch.labels == (("k", "v"),)
    assert (patch.addresses, patch.grpc_services, patch.descriptor_set, patch.ready) == (None, None, None, None)


def test_watch_and_resolve_requests():
    with pytest.raises(RegistryError):
        validate.watch_scope(pb.WatchRequest(services=[f"s{n}" for n in range(65)]))
    with pytest.raises(RegistryError):
        validate.watch_resume(pb.WatchRequest(resume=pb.Revision(number=-1)))
    with pytest.raises(RegistryError):
        validate.resolve_key(pb.ResolveRequest(service="a", min_revision=-1))
    with pytest.raises(RegistryError):
        validate.drain_deadline_ms(pb.DrainRequest(deadline_ms=-1))
    with pytest.raises(RegistryError):
        validate.beats(pb.KeepAliveRequest(beats=[pb.Beat()] * 1001))
    assert len(validate.beats(pb.KeepAliveRequest(beats=[pb.Beat()] * 1000))) == 1000
    assert validate.drain_deadline_ms(pb.DrainRequest()) == 30_000
    assert validate.watch_scope(pb.WatchRequest(services=["b", "a", "b"])) == ("default", frozenset({"a", "b"}))
    assert validate.watch_resume(pb.WatchRequest()) is None
