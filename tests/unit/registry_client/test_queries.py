"""Single questions, and what becomes of their errors."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from fake_registry import FakeRegistry, instance, refusal
from meshway.registry.v1 import registry_pb2 as pb

from registry.client import InstanceState, RegistryClient, RegistryError


class Answers(FakeRegistry):
    async def Resolve(self, request: pb.ResolveRequest, context: Any) -> pb.ResolveResponse:  # noqa: N802
        if request.service == "nope":
            await context.abort_with_status(refusal(grpc.StatusCode.NOT_FOUND, "SERVICE_UNKNOWN", "no service nope"))
        self.resolved = request
        return pb.ResolveResponse(
            ready=[instance("a")],
            draining=[instance("b", state=pb.INSTANCE_STATE_DRAINING)],
            revision=pb.Revision(epoch=self.epoch, number=9),
            last_seen_ms_ago=1500,
        )

    async def ListServices(self, request: pb.ListServicesRequest, context: Any) -> pb.ListServicesResponse:  # noqa: N802
        summary = pb.ServiceSummary(
            namespace="default", service="cart", ready=2, suspect=1, grpc_services=["shop.Cart"]
        )
        return pb.ListServicesResponse(services=[summary])

    async def GetDescriptorSet(self, request: Any, context: Any) -> pb.GetDescriptorSetResponse:  # noqa: N802
        return pb.GetDescriptorSetResponse(descriptor_set=b"set of " + request.digest.encode())


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    registry = Answers()
    await registry.start()
    yield registry
    await registry.stop()


async def test_resolve(answers: Answers) -> None:
    async with RegistryClient(answers.address) as client:
        found = await client.resolve("cart", min_revision=4)
    assert [one.instance_id for one in found.instances] == ["a", "b"]
    assert found.draining[0].state is InstanceState.DRAINING
    assert (found.revision, found.epoch, found.last_seen_ago, found.warming) == (9, answers.epoch, 1.5, False)
    assert answers.resolved.min_revision == 4


async def test_list_services_and_descriptor_set(answers: Answers) -> None:
    async with RegistryClient(answers.address) as client:
        (summary,) = await client.list_services()
        assert (summary.service, summary.ready, summary.suspect) == ("cart", 2, 1)
        assert summary.grpc_services == ("shop.Cart",)
        assert await client.get_descriptor_set("abc") == b"set of abc"


async def test_an_answer_that_is_no_stays_with_its_reason(answers: Answers) -> None:
    async with RegistryClient(answers.address) as client:
        with pytest.raises(RegistryError, match="NOT_FOUND/SERVICE_UNKNOWN: no service nope") as caught:
            await client.resolve("nope")
    assert caught.value.reason == "SERVICE_UNKNOWN"


async def test_the_next_address_is_asked_and_kept(answers: Answers) -> None:
    async with RegistryClient(["127.0.0.1:1", answers.address]) as client:
        await client.resolve("cart")
        await client.resolve("cart")


async def test_no_registry_at_all_is_named() -> None:
    async with RegistryClient("127.0.0.1:1,127.0.0.1:2", timeout=1.0) as client:
        with pytest.raises(RegistryError, match=r"127\.0\.0\.1:2 is not reachable"):
            await client.list_services()
