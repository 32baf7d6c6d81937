"""SETTINGS: what we announce, and what is taken from a peer."""

import pytest
from helpers import frames

from gateway.http2.settings import MAX_SETTINGS, PeerSettings, announcement, apply_settings


def payload(*values: tuple[int, int]) -> bytes:
    return frames.settings(*values)[9:]


def test_the_protocols_defaults():
    peer = PeerSettings()
    assert (peer.header_table, peer.initial_window, peer.max_frame) == (4096, 65_535, 16_384)
    assert peer.max_streams == 0x7FFFFFFF


@pytest.mark.parametrize("is_server", [True, False])
def test_the_announcement_is_one_frame(is_server):
    (frame,) = frames.parse(announcement(is_server))
    assert (frame.kind, frame.flags, frame.stream_id) == (frames.SETTINGS, 0, 0)
    keys = [frame.payload[start + 1] for start in range(0, len(frame.payload), 6)]
    assert keys == [0x4, 0x6, 0x3 if is_server else 0x2]


def test_values_are_taken_the_last_one_counts_and_unknown_ones_are_ignored():
    peer = PeerSettings()
    values = [(1, 0), (2, 0), (3, 7), (4, 1), (4, 0x7FFFFFFF), (5, 16_777_215), (6, 9), (0xABCD, 0xFFFFFFFF)]
    assert apply_settings(peer, payload(*values), True) is None
    assert (peer.header_table, peer.max_streams) == (0, 7)
    assert (peer.initial_window, peer.max_frame) == (0x7FFFFFFF, 16_777_215)


def test_an_empty_frame_changes_nothing():
    peer = PeerSettings()
    assert apply_settings(peer, b"", False) is None
    assert peer.initial_window == 65_535


@pytest.mark.parametrize(
    ("value", "from_server", "code"),
    [
        ((4, 0x80000000), False, frames.FLOW_CONTROL_ERROR),
        ((5, 0), False, frames.PROTOCOL_ERROR),
        ((5, 16_383), False, frames.PROTOCOL_ERROR),
        ((5, 16_777_216), True, frames.PROTOCOL_ERROR),
        ((2, 2), False, frames.PROTOCOL_ERROR),
        ((2, 1), True, frames.PROTOCOL_ERROR),
    ],
)
def test_values_that_break_a_rule(value, from_server, code):
    error = apply_settings(PeerSettings(), payload(value), from_server)
    assert error is not None
    assert error.code == code
    assert error.reason


def test_a_client_may_allow_push():
    assert apply_settings(PeerSettings(), payload((2, 1)), False) is None


def test_the_number_of_entries_is_bounded():
    assert apply_settings(PeerSettings(), payload(*[(3, 1)] * MAX_SETTINGS), True) is None
    error = apply_settings(PeerSettings(), payload(*[(3, 1)] * (MAX_SETTINGS + 1)), True)
    assert error is not None
    assert error.code == frames.ENHANCE_YOUR_CALM
