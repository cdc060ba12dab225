"""QR codes as text and as pictures: what a camera reads is what was put in."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pyte
import pytest

from login.screen import photograph, read, read_png
from tests.browsers import wait_until
from tweakio.errors import FileAccessError, InvalidInputError
from tweakio.login.qr import QrFile, draw, picture

# As long as WhatsApp's: a reference, two keys and a secret.
WHATSAPP = "2@" + ",".join(
    base64.b64encode(bytes([size]) * size).decode() for size in (64, 32, 33, 31)
)
TEXTS = [WHATSAPP, "tg://login?token=" + "A" * 43, "https://example.org/ra/\u00fc", "1", "UPPER 1"]


@pytest.mark.parametrize("many_colors", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_a_terminal_shows_it(text, many_colors):
    drawing = draw(text, many_colors=many_colors)
    screen = pyte.Screen(drawing.width + 10, drawing.height + 2)
    pyte.Stream(screen).feed("\r\n".join(drawing.lines))
    assert read(photograph(screen)) == text


def test_whatsapps_takes_61_columns_and_31_lines():
    drawing = draw(WHATSAPP)
    assert (drawing.width, drawing.height) == (61, 31)


@pytest.mark.parametrize("text", TEXTS)
def test_a_picture_shows_it(text):
    assert read_png(picture(text)) == text


def test_a_file_is_its_owners_is_replaced_and_goes(tmp_path):
    before = os.umask(0)
    try:
        file = QrFile()
        path = file.write("first")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert file.write("second") == path
        assert read_png(path.read_bytes()) == "second"
        assert os.listdir(path.parent) == [path.name]
        file.remove()
        assert not path.parent.exists()
        file.remove()

        named = tmp_path / "qr.png"
        named.write_bytes(b"old")
        named.chmod(0o644)
        file = QrFile(named)
        assert file.is_wanted
        assert named.read_bytes() == b"old"
        assert file.write("third") == named
        assert stat.S_IMODE(named.stat().st_mode) == 0o600
        file.remove()
        assert os.listdir(tmp_path) == []
    finally:
        os.umask(before)


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    named = tmp_path / "qr.png"
    named.symlink_to(target)
    file = QrFile(named)
    file.write("text")
    assert target.read_bytes() == b"mine"
    assert not named.is_symlink()
    file.remove()


@pytest.mark.skipif(os.name != "posix", reason="only there a process waits for the end of another")
@pytest.mark.parametrize("named", [True, False])
def test_it_goes_even_if_the_program_is_killed(tmp_path, named):
    program = (
        "import sys, time; from pathlib import Path; from tweakio.login.qr import QrFile\n"
        "file = QrFile(Path(sys.argv[1]) if len(sys.argv) > 1 else None)\n"
        "print(file.write('text'), flush=True); time.sleep(60)"
    )
    arguments = [str(tmp_path / "qr.png")] if named else []
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        path = Path(process.stdout.readline().strip())
        there = path.exists()
        os.killpg(process.pid, signal.SIGKILL)
    assert there
    wait_until(lambda: not any(tmp_path.iterdir()), "the QR code goes", 10)


def test_places_where_it_cannot_be(tmp_path):
    with pytest.raises(InvalidInputError, match="is a directory"):
        QrFile(tmp_path)
    with pytest.raises(InvalidInputError, match="there is no directory"):
        QrFile(tmp_path / "missing" / "qr.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileAccessError, match="write the QR code"):
        QrFile(tmp_path / "qr.png").write("text")
