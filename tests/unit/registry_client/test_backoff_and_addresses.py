from random import Random

import pytest

from registry.client.backoff import Backoff
from registry.client.dial import Addresses, parse_addresses, split_address


def test_waits_double_up_to_the_cap_with_full_jitter() -> None:
    class Top(Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0.0
            return b

    backoff = Backoff(Top(), cap=1.0)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_waits_are_spread_over_the_whole_range() -> None:
    backoff = Backoff(Random(7), cap=0.1)
    waits = [backoff.next() for _ in range(200)]
    assert min(waits) < 0.01
    assert max(waits) > 0.09


def test_a_lower_cap_counts_at_once() -> None:
    backoff = Backoff(Random(7), cap=100.0)
    for _ in range(20):
        backoff.next()
    backoff.cap = 0.2
    assert backoff.next() <= 0.2


def test_addresses_go_round() -> None:
    addresses = Addresses(" a:1, b:2 ,")
    assert addresses.all == ("a:1", "b:2")
    seen = []
    for _ in range(3):
        seen.append(addresses.current)
        addresses.advance()
    assert seen == ["a:1", "b:2", "a:1"]
    assert str(addresses) == "a:1,b:2"


def test_an_ipv6_address_needs_brackets() -> None:
    assert split_address("[::1]:7500") == ("::1", 7500)
    with pytest.raises(ValueError, match="brackets"):
        split_address("::1:7500")


def test_too_many_addresses_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        parse_addresses([f"h:{port}" for port in range(1, 18)])


@pytest.mark.parametrize(
    "address", ["a..b:80", "x" * 64 + ":80", "two words:80", ":80", "host:0", "host:65536", "host:٣"]
)
def test_an_address_that_cannot_be_one_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="bad address"):
        split_address(address)
