"""ProfileRegistry: the index in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tweakio import Profile, ProfileExistsError, ProfileManager, ProfileRegistry


def profile(name, status="inactive", *, in_use=False):
    return Profile(name, "custom", status, None, None, Path(name), in_use=in_use)


@pytest.mark.parametrize("second", ["alpha", "ALPHA"])
def test_register_prevents_duplicates(second):
    registry = ProfileRegistry()
    registry.register(profile("alpha"))
    with pytest.raises(ProfileExistsError, match="'alpha' exists"):
        registry.register(profile(second))
    assert registry.ids() == ["alpha"]


def test_unregister_forgets_the_active_one_as_well():
    registry = ProfileRegistry()
    registry.register(profile("alpha"))
    registry.set_active("alpha")
    registry.unregister("alpha")
    registry.unregister("alpha")
    assert registry.get_active() is None
    assert registry.get("alpha") is None


def test_get_active_prefers_what_this_program_activated():
    registry = ProfileRegistry()
    registry.refresh([profile("alpha", "active"), profile("beta")])
    assert registry.get_active() == "alpha"
    registry.set_active("beta")
    assert registry.get_active() == "beta"
    assert registry.has_active()
    assert registry.is_active("alpha")
    assert registry.is_active("beta")
    assert not registry.is_active("gamma")


def test_another_programs_profile_is_active_but_not_ours():
    registry = ProfileRegistry()
    registry.update(profile("alpha", "active", in_use=True))
    assert registry.is_active("alpha")
    assert registry.get_active() is None
    assert not registry.has_active()


def test_refresh_replaces_everything():
    registry = ProfileRegistry()
    registry.register(profile("alpha"))
    registry.set_active("alpha")
    registry.refresh([profile("beta")])
    assert registry.ids() == ["beta"]
    assert registry.get_active() is None


def test_the_manager_keeps_it_up_to_date(home):
    registry = ProfileRegistry()
    with ProfileManager(home, registry=registry) as manager:
        manager.create_profiles(["beta", "alpha"], "custom")
        assert registry.ids() == ["alpha", "beta"]
        manager.activate_profile("beta")
        assert registry.get_active() == "beta"
        manager.delete_profile("alpha")
        assert registry.ids() == ["beta"]
        manager.undo()
        manager.list_profiles()
        assert registry.ids() == ["alpha", "beta"]
    assert registry.get_active() is None
