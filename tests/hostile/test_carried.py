"""What somebody gives a person to carry in: a bare repository, an export, a lease, a profile.

Each of these did harm once, or would have.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tweakio import ProfileManager
from tweakio.errors import (
    SecretNotFoundError,
)
from tweakio.references import is_reference, resolve


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


def git(*arguments: object) -> str:
    done = subprocess.run(["git", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def pair(tmp_path):
    """A home, and the bare repository that it was pushed to."""
    bare = tmp_path / "remote.git"
    git("init", "-q", "--bare", "-b", "main", bare)
    with ProfileManager(tmp_path / "a") as one:
        one.create_profiles(["x", "y"], "telegram")
        one.remotes.add("origin", os.fspath(bare))
        one.remotes.push()
        yield one, bare


# What a profile from elsewhere may name


@pytest.mark.parametrize(
    "text",
    ["env:TWEAKIO_IDENTITY", "env:tweakio_identity", "keyring:vault age1q", "keyring:VAULT age1q"],
)
def test_no_reference_leads_to_the_identity(text, monkeypatch):
    """As a proxy's password in a profile that is pulled, it would go to whoever pushed that."""
    monkeypatch.setenv("TWEAKIO_IDENTITY", "AGE-SECRET-KEY-1MARKER")
    monkeypatch.setenv("tweakio_identity", "AGE-SECRET-KEY-1MARKER")
    assert not is_reference(text)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve(text, "browser.proxy_password")
    assert "MARKER" not in str(caught.value)
