"""The JSON is a promise: members, their order and their types, as docs/command-line.md says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_helpers import ROOT, Cli, Holder

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def _is_time(value):
    return isinstance(value, str) and TIME.fullmatch(value) is not None


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


TYPES = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": lambda value: isinstance(value, float),
    "time": _is_time,
    "array of strings": _texts,
    "array of objects": lambda value: (
        isinstance(value, list) and all(item.keys() == {"profile_id", "problem"} for item in value)
    ),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
    "any": lambda value: True,
}
PROFILE = {
    "profile_id": "string",
    "platform": "string or null",
    "status": "string",
    "in_use": "boolean",
    "lock_pid": "integer or null",
    "created_at": "time or null",
    "last_used": "time or null",
    "tags": "array of strings",
    "note": "string",
    "platform_version": "string or null",
    "platform_config": "object",
    "browser": "object",
    "path": "string",
    "problem": "string or null",
}
BROWSER = {
    "browser_state": "string",
    "browser_pid": "integer or null",
    "browser_host": "string or null",
    "unclean_exits": "integer",
    "last_unclean_exit": "time or null",
    "login": "object or null",
    "untrusted": "array of strings",
    "browser_data_lost": "boolean",
}
STATUS = {**PROFILE, **BROWSER}
CHANGE = {
    "revision": "string",
    "operation": "string",
    "profiles": "array of strings",
    "author": "string",
    "time": "time",
    "command": "string",
    "summary": "string",
}
FIELD = {"field": "string", "before": "any", "after": "any"}
DIFFERENCE = {"profile_id": "string", "kind": "string", "fields": [FIELD]}
TRASH = {
    "name": "string",
    "profile_id": "string",
    "kind": "string",
    "profile_created_at": "time or null",
    "time": "time",
    "size": "integer",
    "path": "string",
}


FINDING = {
    "code": "string",
    "severity": "string",
    "fixed": "boolean",
    "message": "string",
    "hint": "string",
}
KEPT = {"path": "string", "command": "string"}
REPORT = {
    "healthy": "boolean",
    "commits": "integer",
    "profiles": "integer",
    "findings": [FINDING],
    "losses": "array of strings",
    "kept": [KEPT],
}
SNAPSHOT = {
    "name": "string",
    "profile_id": "string",
    "platform": "string",
    "profile_created_at": "time",
    "time": "time",
    "files": "integer",
    "bytes": "integer",
    "stored_bytes": "integer",
    "content_sha256": "string",
    "stored_sha256": "string",
    "recipients": "array of strings",
    "bound": "boolean",
    "complete": "boolean",
}
VERIFIED = {
    "name": "string",
    "profile_id": "string",
    "problem": "string",
    "opened": "boolean",
    "bound": "boolean",
}
CHECK = {
    "profile_id": "string",
    "platform": "string or null",
    "state": "string",
    "since": "time or null",
    "verified_at": "time or null",
    "detail": "string",
}
USAGE = {
    "profile_id": "string",
    "session": "integer",
    "browser_profile": "integer",
    "caches": "integer",
    "other": "integer",
    "total": "integer",
}
VAULT = {
    "exists": "boolean",
    "recipients": "array of strings",
    "identity": "string",
    "protected": "boolean",
    "is_recipient": "boolean or null",
    "sealed": "array of strings",
    "missing": "array of strings",
    "unconfirmed": "array of strings",
    "problems": "array of objects",
    "not_bound": "array of strings",
}
IMPORT = {
    "profile_id": "string",
    "source_id": "string",
    "platform": "string",
    "action": "string",
    "with_session": "boolean",
}


def check(value, schema):
    """Fail unless a value has exactly the members of a schema, in their order."""
    if isinstance(schema, list):
        assert isinstance(value, list)
        assert value, "an empty array shows nothing"
        for item in value:
            check(item, schema[0])
    elif isinstance(schema, dict):
        assert list(value) == list(schema)
        for name, kind in schema.items():
            check(value[name], kind)
    else:
        assert any(TYPES[kind](value) for kind in schema.split(" or ")), (value, schema)


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    cli = Cli(tmp_path_factory.mktemp("json"))
    cli.ok("profile", "create", "alpha", "beta", "gamma", "--platform", "whatsapp",
           "--tag", "é", "--note", "two\nlines", "--config", "api_id=env:ID",
           "--platform-version", "1", "--window", "1280x800", "--timezone", "UTC")  # fmt: skip
    cli.ok("profile", "set", "alpha", "--note", "n")
    cli.ok("profile", "delete", "gamma")
    cli.ok("profile", "snapshot", "create", "alpha")
    cli.damage("beta")
    return cli


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (["list"], [PROFILE]),
        (["list", "--corrupted"], [PROFILE]),
        (["status", "alpha"], STATUS),
        (["status", "beta"], STATUS),
        (["history"], [CHANGE]),
        (["history", "alpha", "-n", "1"], [CHANGE]),
        (["show", "HEAD"], {**CHANGE, "changes": [DIFFERENCE]}),
        (["diff", "alpha", "HEAD~2"], DIFFERENCE),
        (["trash", "list"], [TRASH]),
        (["du"], [USAGE]),
        (["snapshot", "list", "alpha"], [SNAPSHOT]),
        (["snapshot", "verify", "alpha"], [VERIFIED]),
    ],
    ids=map(str, range(12)),
)
def test_contract(cli, arguments, schema):
    result = cli.ok("profile", *arguments, "--json")
    assert result.err == ""
    assert result.out.endswith("\n")
    value = json.loads(result.out)
    check(value, schema)
    assert result.out == json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def test_a_profile_in_use(cli):
    with Holder(cli, "alpha") as holder:
        value = json.loads(cli.ok("profile", "status", "alpha", "--json").out)
    check(value, STATUS)
    assert (value["in_use"], value["lock_pid"], value["status"]) == (True, holder.pid, "active")


def test_values(cli):
    value = json.loads(cli.ok("profile", "status", "beta", "--json").out)
    assert (value["platform"], value["status"], value["created_at"]) == (None, "corrupted", None)
    assert value["problem"]
    value = json.loads(cli.ok("profile", "status", "alpha", "--json").out)
    assert value["platform_config"] == {"api_id": "env:ID"}
    assert value["browser"] == {"timezone": "UTC", "window": [1280, 800]}
    assert value["tags"] == ["é"]
    assert Path(value["path"]) == cli.profiles / "alpha"


def test_the_report_of_the_doctor(cli):
    (cli.profiles / ".git" / "HEAD").write_bytes(b"")
    result = cli.run("repo", "doctor", "--fix", "--json")
    value = json.loads(result.out)
    check(value, REPORT)
    assert (result.code, value["losses"]) == (14, [])
    assert (value["healthy"], value["profiles"]) == (False, 2)


def test_the_vault(cli):
    before = json.loads(cli.ok("vault", "status", "--json").out)
    check(before, VAULT)
    assert (before["exists"], before["identity"]) == (False, "")
    assert json.loads(cli.ok("vault", "recipients", "list", "--json").out) == []


def test_leases(cli):
    value = json.loads(cli.ok("repo", "lease", "status", "--json").out)
    assert value == {"backend": "", "ttl": 30.0, "leases": []}
    cli.ok("repo", "lease", "use", "file", "--ttl", "20")
    with Holder(cli, "alpha"):
        value = json.loads(cli.ok("repo", "lease", "status", "--json").out)
    lease = value["leases"][0]
    check(
        lease,
        {"profile_id": "string", "holder": "string", "token": "integer", "expires_in": "number"},
    )
    assert (value["backend"], value["ttl"], lease["token"]) == ("file", 20.0, 1)


def test_an_import(cli, tmp_path):
    cli.ok("profile", "export", "alpha", tmp_path / "f.zip")
    for option in ("--rename", "--skip"):
        result = cli.ok("profile", "import", tmp_path / "f.zip", option, "--dry-run", "--json")
        check(json.loads(result.out), [IMPORT])


def test_empty_lists_are_lists(tmp_path):
    cli = Cli(tmp_path)
    cli.create("alpha")
    for arguments in (["list", "--corrupted"], ["trash", "list"]):
        assert cli.ok("profile", *arguments, "--json").out == "[]\n"


def test_an_error_prints_no_json(cli):
    result = cli.run("profile", "status", "nobody", "--json")
    assert (result.code, result.out) == (3, "")


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("Profile", PROFILE),
        ("Browser", BROWSER),
        ("Change", CHANGE),
        ("Difference", DIFFERENCE),
        ("Trash entry", TRASH),
        ("Snapshot", SNAPSHOT),
        ("Verified snapshot", VERIFIED),
        ("Check", CHECK),
        ("Usage", USAGE),
        ("Import", IMPORT),
        ("Report", REPORT),
        ("Vault", VAULT),
    ],
)
def test_the_documented_members_are_these(heading, schema):
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = text.split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*)\|", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(schema)
    for name, kind, _ in rows:
        expected = schema[name]
        if isinstance(expected, str):
            assert kind == expected.replace("time", "string")
