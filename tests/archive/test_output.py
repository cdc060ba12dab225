"""The file that appears at once, also where a file cannot be without a name."""

from __future__ import annotations

import os

import pytest

from tweakio import InvalidInputError, durable
from tweakio.archive.output import new_file


@pytest.fixture(params=["without a name", "beside"])
def way(request, monkeypatch):
    if request.param == "beside":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return request.param


def test_complete(tmp_path, way):
    path = tmp_path / "file"
    with new_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_nothing(tmp_path, way):
    with pytest.raises(RuntimeError, match="stop"), new_file(tmp_path / "file") as file:
        file.write(b"content")
        raise RuntimeError("stop")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(5, "it broke"), KeyboardInterrupt()])
def test_a_name_that_the_disk_did_not_confirm_is_taken_back(tmp_path, way, monkeypatch, error):
    def fail(directory):
        assert (directory / "file").exists()
        raise error

    monkeypatch.setattr(durable, "fsync_directory", fail)
    with pytest.raises(type(error)), new_file(tmp_path / "file") as file:
        file.write(b"content")
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_taken_meanwhile(tmp_path, way):
    path = tmp_path / "file"
    with pytest.raises(InvalidInputError, match="exists"), new_file(path) as file:
        file.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(InvalidInputError, match="exists"), new_file(path):
        pass


def test_a_directory_that_is_missing(tmp_path, way):
    with (
        pytest.raises(InvalidInputError, match=r"no directory .*missing$"),
        new_file(tmp_path / "missing" / "file"),
    ):
        pass
