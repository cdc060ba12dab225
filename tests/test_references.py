"""References to secrets: resolved in the moment of use, and never told."""

from __future__ import annotations

import copy
import logging
import sys

import pytest

from tweakio import MissingExtraError, SecretNotFoundError, VaultError
from tweakio.references import SERVICE, is_reference, resolve, resolve_config

SECRET = "hunter2-correct-horse"

GOOD = [
    "env:A",
    "env:_x9",
    "env:TELEGRAM_HASH",
    "keyring:a",
    "keyring:tweakio/news bot",
    "keyring:é",
]
BAD = [
    *("", "env:", "keyring:", "env: A", "env:A ", "env:1A", "env:a-b", "env:a.b", "env:A\nB"),
    *("ENV:A", "keyring: a", "keyring:a ", "keyring:a\x1b", "keyring:" + "a" * 129),
    *("env:" + "A" * 200, "env:\u00e4"),
    *("file:x", "hunter2", "******", f"env:{SECRET}", None, 1, ["env:A"], b"env:A"),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_well_formed(text):
    assert is_reference(text)


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_not_well_formed(text):
    assert not is_reference(text)


def test_a_variable(monkeypatch):
    monkeypatch.setenv("PROXY_PASSWORD", f" {SECRET}\n")
    assert resolve("env:PROXY_PASSWORD") == f" {SECRET}\n"


@pytest.mark.parametrize(("value", "what"), [(None, "not there"), ("", "empty")])
def test_a_variable_that_is_not_there_or_empty(monkeypatch, value, what):
    monkeypatch.delenv("PROXY_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("PROXY_PASSWORD", value)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve("env:PROXY_PASSWORD", "browser.proxy_password")
    error = caught.value
    assert error.message == f"browser.proxy_password needs env:PROXY_PASSWORD, which is {what}"
    assert error.hint == "set the environment variable PROXY_PASSWORD"
    assert error.details == {"reference": "env:PROXY_PASSWORD"}


@pytest.mark.parametrize("text", [f"env:{SECRET}", f"keyring:{SECRET}\x07", f"{SECRET}", "env:"])
def test_what_is_no_reference_is_not_repeated(text, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve(text, "platform_config.token")
    assert caught.value.message == "platform_config.token does not name a secret"
    assert SECRET not in repr(caught.value) + caught.value.hint + caplog.text


def test_the_text_of_the_error_is_one_line_for_any_name(monkeypatch):
    monkeypatch.delenv("X", raising=False)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve("env:X")
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("a setting needs env:X")


# The key ring: the real package, with a backend of its own in memory


@pytest.fixture
def key_ring():
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class InMemory(KeyringBackend):
        priority = 1
        kept: dict[tuple[str, str], str] = {}  # noqa: RUF012
        failing = False

        def get_password(self, service, username):
            if self.failing:
                raise RuntimeError(f"the daemon said {SECRET}")
            return self.kept.get((service, username))

        def set_password(self, service, username, password):
            self.kept[service, username] = password

    before, made = keyring.get_keyring(), InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def test_an_entry_of_the_key_ring(key_ring):
    key_ring.set_password(SERVICE, "support bot", SECRET)
    assert resolve("keyring:support bot") == SECRET


def test_an_entry_that_is_not_there(key_ring):
    with pytest.raises(SecretNotFoundError) as caught:
        resolve("keyring:nobody", "browser.proxy_password")
    assert "needs keyring:nobody, which is not there" in caught.value.message
    assert caught.value.hint == "run 'keyring set tweakio nobody'"


def test_a_key_ring_that_fails_is_not_quoted(key_ring, caplog):
    caplog.set_level(logging.DEBUG)
    key_ring.failing = True
    with pytest.raises(SecretNotFoundError) as caught:
        resolve("keyring:a")
    assert "cannot be used (RuntimeError)" in caught.value.message
    assert caught.value.__cause__ is None
    assert SECRET not in str(caught.value) + caught.value.hint + caplog.text


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingExtraError) as caught:
        resolve("keyring:a", "browser.proxy_password")
    assert "browser.proxy_password" in caught.value.message
    assert "tweakio[keyring]" in caught.value.hint


# Sealed


def test_what_is_sealed_is_opened_by_whoever_can():
    text = "sealed:" + "A" * 60
    assert resolve(text, opener=lambda sealed, _: SECRET if sealed == text else "") == SECRET
    with pytest.raises(VaultError, match="a.b is sealed, and there is nothing here"):
        resolve(text, "a.b")

    def fail(sealed, key):
        raise MissingExtraError("no pyrage", hint="install it", extra="vault")

    with pytest.raises(MissingExtraError) as caught:
        resolve_config({"tokens": [{"c": text}]}, "a", opener=fail)
    assert caught.value.message == "a.tokens.c is sealed and cannot be opened: no pyrage"
    assert (caught.value.hint, caught.value.details) == ("install it", {"extra": "vault"})


# Whole configurations


def test_every_reference_of_a_configuration(monkeypatch):
    monkeypatch.setenv("A", "first")
    monkeypatch.setenv("B", "second")
    config = {
        "api_id": "env:A",
        "deep": {"tokens": ["env:B", 1, None, True, ["env:A"]], "text": "environment: A"},
        "mask": "******",
        "empty": "",
        "almost": "env: A",
    }
    before = copy.deepcopy(config)
    assert resolve_config(config) == {
        "api_id": "first",
        "deep": {"tokens": ["second", 1, None, True, ["first"]], "text": "environment: A"},
        "mask": "******",
        "empty": "",
        "almost": "env: A",
    }
    assert config == before


def test_the_place_of_what_is_missing_is_told(monkeypatch):
    monkeypatch.delenv("MISSING", raising=False)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve_config({"accounts": [{"token": "env:MISSING"}]})
    assert caught.value.message.startswith("platform_config.accounts.token needs env:MISSING")
