"""The bundle of browser data: what goes in comes out, other tools open it, and nothing hostile."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from tweakio.bundle import BundleInfo, read_bundle, write_bundle
from tweakio.errors import ArchiveError, NewerFormatError, VaultError
from tweakio.layout import ProfilePaths

LONG = "n" * 120 + "/" + "m" * 200


def profile(tmp_path: Path) -> ProfilePaths:
    paths = ProfilePaths(tmp_path / "p")
    default = paths.browser_profile / "Default"
    (default / "Local Storage").mkdir(parents=True)
    (default / "Cache").mkdir()
    (default / "Cache" / "big").write_bytes(bytes(1 << 20))
    (default / "Cookies").write_bytes(os.urandom(3 << 20))
    (default / "Local Storage" / "empty").write_bytes(b"")
    (default / "Local Storage" / "ümlaut \udcff").write_bytes(b"x" * 511)
    (default / LONG).parent.mkdir()
    (default / LONG).write_bytes(b"long")
    (default / "none").mkdir()
    (default / "link").symlink_to("/etc/passwd")
    (paths.browser_profile / "SingletonLock").symlink_to("host-4711")
    (paths.browser_profile / "tweakio.json").write_text("{}")
    (paths.browser_profile / "lockfile").write_text("")
    paths.session.write_text('{"cookies": []}')
    return paths


def bundle(paths: ProfilePaths, **options: object) -> tuple[bytes, BundleInfo]:
    out = io.BytesIO()
    # Options of several types in one mapping, which no annotation can tell apart.
    info = write_bundle(paths, out, **options)  # type: ignore[arg-type]
    return out.getvalue(), info


def content(top: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(top).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(top.rglob("*"))
    }


def test_what_goes_in_comes_out(tmp_path):
    paths = profile(tmp_path)
    seen: list[int] = []
    data, info = bundle(paths, progress=seen.append)
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    assert info.size == len(data)
    assert seen[-1] == info.bytes
    into = tmp_path / "into"
    into.mkdir()
    mask = os.umask(0)
    try:
        assert read_bundle(io.BytesIO(data), into, limit_bytes=info.bytes) == info
    finally:
        os.umask(mask)
    expected = content(paths.directory)
    for name in ("Default/Cache", "Default/Cache/big", "Default/link", "SingletonLock", "lockfile"):
        expected.pop(f"browser_profile/{name}", None)
    assert content(into) == expected
    for path in into.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_same_content_makes_the_same_bundle(tmp_path):
    paths = profile(tmp_path)
    first = bundle(paths)[0]
    os.utime(paths.session, (0, 0))
    assert bundle(paths)[0] == first


def test_plain_tools_open_and_check_it(tmp_path):
    paths = profile(tmp_path)
    (paths.browser_profile / "Default" / "Local Storage" / "ümlaut \udcff").unlink()
    (tmp_path / "b.tar.zst").write_bytes(bundle(paths)[0])
    into = tmp_path / "plain"
    into.mkdir()
    plain = zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO((tmp_path / "b.tar.zst").read_bytes())
    )
    subprocess.run(["tar", "-x", "-C", into], input=plain.read(), check=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "tweakio-bundle-1.sha256"], cwd=into, check=True)
    assert (into / "session.json").exists()


def test_without_the_session(tmp_path):
    data, info = bundle(profile(tmp_path), session=False)
    into = tmp_path / "into"
    into.mkdir()
    read_bundle(io.BytesIO(data), into, limit_bytes=info.bytes)
    assert not (into / "session.json").exists()


def test_sealed(tmp_path):
    from tweakio.vault import age

    identity, recipient = age.generate_identity()
    paths = profile(tmp_path)
    data, info = bundle(paths, seal=lambda r, w: age.seal_stream(r, w, [recipient]))
    assert data.startswith(b"age-encryption.org/v1")
    into = tmp_path / "into"
    into.mkdir()
    found = read_bundle(
        io.BytesIO(data), into, limit_bytes=1 << 30,
        unseal=lambda r, w: age.unseal_stream(r, w, [identity]),
    )  # fmt: skip
    assert found == info
    other = age.generate_identity()[0]
    with pytest.raises(VaultError):
        read_bundle(
            io.BytesIO(data), None, limit_bytes=1 << 30,
            unseal=lambda r, w: age.unseal_stream(r, w, [other]),
        )  # fmt: skip
    with pytest.raises(VaultError):
        read_bundle(
            io.BytesIO(data[:-1]), None, limit_bytes=1 << 30,
            unseal=lambda r, w: age.unseal_stream(r, w, [identity]),
        )  # fmt: skip


# Hostile


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def sums(**files: bytes) -> bytes:
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return member("tweakio-bundle-1.sha256", lines.encode()) + bytes(1024)


def packed(*parts: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(b"".join(parts))


S = {"session.json": b"{}"}
SESSION = member("session.json", b"{}")
B = "browser_profile"
HOSTILE = {
    "parent": [member("../x", b"x"), sums()],
    "absolute": [member("/tmp/x", b"x"), sums()],
    "inside": [member(f"{B}/../../x", b"x"), sums()],
    "backslash": [member(f"{B}\\..\\x", b"x"), sums()],
    "elsewhere": [member("metadata.json", b"x"), sums()],
    "lock": [member(".lock", b"x"), sums()],
    "dot": [member(f"{B}/./x", b"x"), sums()],
    "nul": [member(f"{B}/" + "a" * 100 + "\0/../../x", b"x"), sums()],
    "newline": [member(f"{B}/a\nb", b"x"), sums()],
    "symbolic link": [member(f"{B}/l", kind=tarfile.SYMTYPE, linkname="/etc"), sums()],
    "hard link": [member(f"{B}/l", kind=tarfile.LNKTYPE, linkname="/etc/passwd"), sums()],
    "device": [member(f"{B}/l", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), sums()],
    "fifo": [member(f"{B}/l", kind=tarfile.FIFOTYPE), sums()],
    "sparse": [member(f"{B}/l", kind=tarfile.GNUTYPE_SPARSE), sums()],
    "pax": [member(f"{B}/l", b"20 path=../../../x\n\n", kind=tarfile.XHDTYPE), sums()],
    "twice": [SESSION, SESSION, sums(**S)],
    "by case": [member(f"{B}/A", b"x"), member(f"{B}/a", b"x"), sums()],
    "by normal form": [member(f"{B}/\u00e4", b"x"), member(f"{B}/a\u0308", b"x"), sums()],
    "file and directory": [member(f"{B}/a", b"x"), member(f"{B}/a/b", b"x"), sums()],
    "directory and file": [member(f"{B}/a/b", b"x"), member(f"{B}/a", b"x"), sums()],
    "a file at the top": [member(B, b"x"), sums()],
    "wrong hash": [SESSION, sums(**{"session.json": b"[]"})],
    "missing hash": [SESSION, sums()],
    "hash of nothing": [SESSION, sums(**S, other=b"")],
    "no hashes": [SESSION, bytes(1024)],
    "no end": [SESSION, sums(**S)[:-1024]],
    "cut": [SESSION[:600]],
    "behind": [SESSION, sums(**S), b"x"],
    "long name": [member("x" * 100_000, b"x"), sums()],
    "size": [member(f"{B}/a", size=1 << 50), sums()],
    "negative": [member(f"{B}/a", size=-5), sums()],
    "nothing": [],
    "garbage": [b"garbage" * 1000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name, tmp_path):
    into = tmp_path / "a" / "into"
    into.mkdir(parents=True)
    with pytest.raises(ArchiveError) as caught:
        read_bundle(io.BytesIO(packed(*HOSTILE[name])), into, limit_bytes=1 << 20)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["into"]


def test_the_parts_are_sound_without_the_hostile_one():
    info = read_bundle(io.BytesIO(packed(SESSION, sums(**S))), None, limit_bytes=2)
    assert info.files == 1


def test_bomb_stops_at_the_limit(tmp_path):
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as stream:
        stream.write(member(f"{B}/a", size=1 << 34))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    with pytest.raises(ArchiveError, match="more than"):
        read_bundle(io.BytesIO(out.getvalue()), tmp_path, limit_bytes=1 << 20)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) <= 1 << 20


def test_newer(tmp_path):
    newer = member("tweakio-bundle-2.sha256") + bytes(1024)
    with pytest.raises(NewerFormatError):
        read_bundle(io.BytesIO(packed(SESSION, newer)), None, limit_bytes=99)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_any_changed_byte_is_noticed(part, tmp_path):
    data = bytearray(bundle(profile(tmp_path))[0])
    data[int(len(data) * part)] ^= 0x10
    with pytest.raises(ArchiveError):
        read_bundle(io.BytesIO(bytes(data)), None, limit_bytes=1 << 30)


def test_names_that_differ_only_by_case_are_not_written(tmp_path):
    paths = profile(tmp_path)
    shutil.rmtree(paths.browser_profile)
    paths.browser_profile.mkdir()
    for name in ("A", "a"):
        (paths.browser_profile / name).write_text(name)
    if len(os.listdir(paths.browser_profile)) == 2:
        with pytest.raises(ArchiveError, match="case"):
            bundle(paths)


REPOSITORIES = [
    *(".git/HEAD", ".git/hooks/post-checkout", "a/.Git", "b/git~1/config"),
    *(
        "c/.GIT/config",
        "d/.g\u200cit/config",
        "e/.git. /config",
        "f/.git::$INDEX_ALLOCATION/config",
    ),
]


def test_repositories_stay_out(tmp_path):
    """Hooks and settings in them would run for whoever calls git there."""
    content = {f"{B}/Cookies": b"c", **{f"{B}/{name}": b"harm" for name in REPOSITORIES}}
    members = [member(name, data) for name, data in content.items()]
    info = read_bundle(io.BytesIO(packed(*members, sums(**content))), tmp_path, limit_bytes=1 << 20)
    assert info.files == len(content)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {B, f"{B}/Cookies", *(f"{B}/{name}" for name in "abcdef")}
