"""Timers on a clock that the test holds."""

import random

from gateway.model import Waiter
from gateway.timers import Timer, TimerQueue


class Bell(Waiter):
    def __init__(self, name: object, rung: list) -> None:
        self.name = name
        self.rung = rung

    def wake(self, now: float) -> None:
        self.rung.append((self.name, now))


class Restart(Waiter):
    """Adds another timer, and cancels one, while it is woken."""

    def __init__(self, timers: TimerQueue, victim: Timer, rung: list) -> None:
        self.timers = timers
        self.victim = victim
        self.rung = rung

    def wake(self, now: float) -> None:
        self.timers.cancel(self.victim)
        self.timers.add(now, Bell("at once", self.rung))
        self.timers.add(now + 1.0, Bell("later", self.rung))


def test_they_fire_in_order_and_once():
    timers, rung = TimerQueue(), []
    for name in (3.0, 1.0, 2.0):
        timers.add(name, Bell(name, rung))
    assert timers.next_deadline() == 1.0
    timers.expire(0.5)
    assert rung == []
    timers.expire(2.0)
    assert rung == [(1.0, 2.0), (2.0, 2.0)]
    assert (len(timers), timers.next_deadline()) == (1, 3.0)
    timers.expire(10.0)
    timers.expire(10.0)
    assert rung[2:] == [(3.0, 10.0)]
    assert (len(timers), timers.next_deadline()) == (0, None)


def test_equal_deadlines_fire_in_the_order_they_were_added():
    timers, rung = TimerQueue(), []
    for name in range(5):
        timers.add(1.0, Bell(name, rung))
    timers.expire(1.0)
    assert [name for name, _now in rung] == [0, 1, 2, 3, 4]


def test_a_cancelled_timer_never_fires():
    timers, rung = TimerQueue(), []
    first = timers.add(1.0, Bell("first", rung))
    timers.add(2.0, Bell("second", rung))
    timers.cancel(first)
    timers.cancel(first)
    assert (len(timers), timers.next_deadline()) == (1, 2.0)
    timers.expire(5.0)
    assert [name for name, _now in rung] == ["second"]


def test_cancelling_what_has_fired_is_harmless():
    timers, rung = TimerQueue(), []
    timer = timers.add(1.0, Bell("a", rung))
    timers.expire(1.0)
    timers.cancel(timer)
    assert len(timers) == 0
    timers.add(2.0, Bell("b", rung))
    assert len(timers) == 1


def test_a_waiter_may_add_and_cancel():
    timers, rung = TimerQueue(), []
    victim = timers.add(1.5, Bell("victim", rung))
    timers.add(1.0, Restart(timers, victim, rung))
    timers.expire(1.6)
    assert [name for name, _now in rung] == ["at once"], "what is due by then fires in the same call"
    timers.expire(2.6)
    assert [name for name, _now in rung] == ["at once", "later"]
    assert len(timers) == 0


def test_cancelled_timers_are_forgotten():
    """Calls with a deadline of an hour come and go by the thousand: their timers must not stay for the hour."""
    timers, rung = TimerQueue(), []
    for _call in range(10_000):
        timers.cancel(timers.add(3600.0, Bell("never", rung)))
    keep = timers.add(7200.0, Bell("kept", rung))
    assert len(timers) == 1
    assert len(timers._heap) < 200
    timers.expire(7200.0)
    assert [name for name, _now in rung] == ["kept"]
    assert keep.waiter is None


def test_a_random_life_agrees_with_a_plain_list():
    rng = random.Random(7)
    timers, rung = TimerQueue(), []
    alive: dict[int, tuple[float, Timer]] = {}
    now, expected = 0.0, []
    for number in range(3000):
        act = rng.randrange(10)
        if act < 6:
            deadline = now + rng.random() * 10
            alive[number] = (deadline, timers.add(deadline, Bell(number, rung)))
        elif act < 9 and alive:
            victim = rng.choice(list(alive))
            timers.cancel(alive.pop(victim)[1])
        else:
            now += rng.random()
            due = sorted((deadline, key) for key, (deadline, _timer) in alive.items() if deadline <= now)
            expected += [key for _deadline, key in due]
            for _deadline, key in due:
                del alive[key]
            timers.expire(now)
        assert len(timers) == len(alive)
        assert timers.next_deadline() == (min(deadline for deadline, _timer in alive.values()) if alive else None)
    assert [name for name, _now in rung] == expected
