from collections.abc import AsyncIterator

import pytest
from fake_registry import FakeRegistry


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    registry = await FakeRegistry().start()
    yield registry
    await registry.stop()
