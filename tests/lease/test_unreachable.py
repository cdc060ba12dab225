"""A backend that cannot be reached: the holder gives up before others may have the profile."""

from __future__ import annotations

import queue
import time

import pytest

from tweakio import LeaseError, LeaseLostError, ProfileManager
from tweakio.lease import holder


@pytest.fixture
def leased(home, redis):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use(redis.url, ttl=2.0)
        yield manager


def test_the_holder_gives_up_before_its_lease_runs_out(leased, redis):
    leased.activate_profile("a")
    told: queue.Queue[float] = queue.Queue()
    leased.locks.guard.watch("a", lambda: told.put(holder._now()))
    lease = leased.locks.guard._leases["a"]
    time.sleep(0.8)  # it is renewed once
    redis.end()
    before = leased.history()
    leased.update_profiles(["a"], note="its lease lasts still")
    assert len(leased.history()) == len(before) + 1
    at = told.get(timeout=10)
    # Nobody else can have it for another third of its time.
    assert at < lease.expires
    assert at > lease.expires - lease.ttl * 0.6
    with pytest.raises(LeaseLostError):
        leased.update_profiles(["a"], note="too late")
    with pytest.raises(LeaseLostError):
        leased.deactivate_profile()


def test_a_change_of_what_may_be_leased_is_refused(leased, redis):
    redis.end()
    with pytest.raises(LeaseError, match="does not answer"):
        leased.update_profiles(["a"], note="x")
    with pytest.raises(LeaseError, match="does not answer"):
        leased.activate_profile("a")
    assert not leased.locks.is_locked("a")
    leased.create_profile("b", "custom")  # nobody can have a lease of it
    leased.leases.use(None)
    leased.update_profiles(["a"], note="x")


def test_an_answer_is_not_waited_for_longer_than_the_lease_allows(leased, redis):
    leased.leases.use(redis.url, ttl=9.0)
    redis.hang()
    before = time.monotonic()
    with pytest.raises(LeaseError, match="does not answer"):
        leased.activate_profile("a")
    assert 0.9 < time.monotonic() - before < 2.5


def test_many_leases_are_lost_in_time(leased, redis):
    names = [f"p{number}" for number in range(12)]
    leased.create_profiles(names, "custom")
    guard = leased.locks.guard
    for name in names:
        leased.locks.acquire(name)
    told: queue.Queue[tuple[str, float]] = queue.Queue()

    def slowly(name):
        told.put((name, holder._now()))
        time.sleep(1)  # as a browser does that closes

    for name in names:
        guard.watch(name, lambda name=name: slowly(name))
    redis.hang()
    expires = {name: guard._leases[name].expires for name in names}
    late = [name for name, at in (told.get(timeout=10) for _ in names) if at >= expires[name]]
    assert late == []


def test_a_process_that_was_stopped_asks_before_it_gives_up(leased, monkeypatch):
    """As after a sleep that was shorter than its lease."""
    leased.activate_profile("a")
    guard = leased.locks.guard
    lease = guard._leases["a"]
    now = holder._now()
    monkeypatch.setattr(lease, "expires", now + 0.3)
    monkeypatch.setattr(lease, "given_up", now + 0.3)
    monkeypatch.setattr(lease, "next", now - 1.0)
    guard._renew(lease)
    assert not lease.lost
    assert lease.expires > now + 1.5
