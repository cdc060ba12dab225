"""Bad input and bad circumstances: one line, the right exit code, nothing changed."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys

import pytest
from cli_helpers import COMMAND, TIMEOUT, UNSET, Cli, Holder, environment, errors

posix = pytest.mark.skipif(os.name != "posix", reason="signals and devices of POSIX")
LONG = "x" * 5000
NEW = ["profile", "create", "new", "--platform", "whatsapp"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two profiles, one of them active; beta is damaged."""
    cli = Cli(tmp_path_factory.mktemp("bad"))
    cli.create("alpha", "beta", "gamma")
    cli.ok("profile", "activate", "alpha")
    cli.damage("beta")
    cli.run("profile", "list")
    return cli


BAD = [
    (["nonsense"], 2, "no such command 'nonsense'"),
    (["profil", "list"], 2, "did you mean 'profile'?"),
    (["profile"], 2, "missing command"),
    (["profile", "lsit"], 2, "did you mean 'list'?"),
    (["profile", "trash"], 2, "missing command"),
    (["repo", "nonsense"], 2, "no such command"),
    (["--nonsense", "profile", "list"], 2, "no such option: --nonsense"),
    (["--home"], 2, "requires an argument"),
    (["--home", "", "profile", "list"], 2, "home directory is empty"),
    (["--home", "", "profile", "list", "--tag", "x"], 2, "home directory is empty"),
    (["--home", "~nobody-of-this-name/x", "profile", "list"], 2, "cannot be found"),
    (["--home", "/nonexistent/there", *NEW], 12, "/nonexistent does not exist"),
    (["--home", "/nonexistent/there", "profile", "list"], 12, "does not exist"),
    (["--home", "/nonexistent/there", "profile", "undo"], 12, "does not exist"),
    (["--home", "/nonexistent/there", "profile", "redo"], 12, "does not exist"),
    (["--home", "/nonexistent/there", "profile", "trash", "restore", "x"], 12, "does not exist"),
    (["--home", __file__, "profile", "list"], 12, "is not a directory"),
    (["--home", __file__, "profile", "undo"], 12, "is not a directory"),
    (["--home", __file__, "profile", "redo"], 12, "is not a directory"),
    (["--home", __file__, "profile", "trash", "restore", "x"], 12, "is not a directory"),
    (["profile", "create", "--platform", "whatsapp"], 2, "missing argument"),
    (["profile", "create", "new"], 2, "missing option '--platform'"),
    (["profile", "create", "new", "--platform", "icq"], 9, "unknown platform 'icq'"),
    ([*NEW, "alpha"], 4, "profile 'alpha' exists"),
    ([*NEW, "ALPHA"], 4, "differs from 'ALPHA' by case"),
    ([*NEW, "new"], 2, "given twice"),
    ([*NEW, "--config", "hunter2"], 2, "number 1 is not KEY=VALUE"),
    ([*NEW, "--config", "=hunter2"], 2, "is not KEY=VALUE"),
    ([*NEW, "--config", "k=1", "--config", "k=2"], 2, "twice"),
    ([*NEW, "--config", "k="], 2, "has no value"),
    ([*NEW, "--config", "password=hunter2"], 23, "secret in the clear"),
    ([*NEW, "--tag", " x"], 2, "is not a tag"),
    ([*NEW, "--tag", ""], 2, "is not a tag"),
    ([*NEW, "--tag", "a\nb"], 2, "is not a tag"),
    ([*NEW, "--tag", LONG], 2, "is not a tag"),
    ([*NEW, "--note", LONG], 23, "note"),
    ([*NEW, "--note", "\x1b[31m"], 23, "unprintable"),
    ([*NEW, "--platform-version", LONG], 23, "platform_version"),
    (["profile", "activate"], 2, "missing argument"),
    (["profile", "activate", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "activate", "beta"], 7, "is corrupted"),
    (["profile", "activate", "gamma", "--timeout", "soon"], 2, "not a number of seconds"),
    (["profile", "activate", "gamma", "--timeout", "-1"], 2, "not a number of seconds"),
    (["profile", "activate", "gamma", "--timeout", "nan"], 2, "not a number of seconds"),
    (["profile", "activate", "gamma", "--timeout", "inf"], 2, "not a number of seconds"),
    (["profile", "deactivate", "alpha"], 2, "unexpected extra argument"),
    (["profile", "delete"], 2, "no profile was given"),
    (["profile", "delete", "alpha"], 5, "is active"),
    (["profile", "delete", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "delete", "gamma", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "delete", "gamma", "alpha"], 5, "is active"),
    (["profile", "delete", "gamma", "gamma"], 2, "given twice"),
    (["profile", "delete", "gamma", "--tag", "x"], 2, "both given"),
    (["profile", "delete", "--tag", "nothing-has-it"], 3, "no profile fits"),
    (["profile", "delete", "--platform", "icq"], 9, "unknown platform"),
    (["profile", "list", "--all", "--active"], 2, "exclude each other"),
    (["profile", "list", "--platform", "icq"], 9, "unknown platform"),
    (["profile", "list", "alpha"], 2, "unexpected extra argument"),
    (["profile", "list", LONG], 2, "unexpected extra argument"),
    (["profile", "list", "--jsn"], 2, "no such option"),
    (["profile", "status", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "recover"], 2, "no profile was given"),
    (["profile", "recover", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "recover", "beta", "--mode", "gentle"], 2, "unknown mode 'gentle'"),
    (["profile", "recover", "--tag", "x"], 3, "no damaged profile"),
    (["profile", "set", "gamma"], 2, "nothing to set"),
    (["profile", "set", "--tag", "x"], 2, "no profile was given"),
    (["profile", "set", "gamma", "--where-tag", "x", "--tag", "y"], 2, "both given"),
    (["profile", "set", "nobody", "--tag", "x"], 3, "no profile 'nobody'"),
    (["profile", "set", "beta", "--tag", "x"], 7, "is corrupted"),
    (["profile", "set", "gamma", "--config", "token=hunter2"], 23, "secret in the clear"),
    (["profile", "history", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "history", "-n", "0"], 2, "-n needs a number"),
    (["profile", "history", "-n", "many"], 2, "invalid value for '-n'"),
    (["profile", "show"], 2, "missing argument"),
    (["profile", "show", "nonsense"], 10, "no revision 'nonsense'"),
    (["profile", "show", "HEAD~99"], 10, "no revision"),
    (["profile", "show", ""], 10, "no revision"),
    (["profile", "show", LONG], 10, "no revision"),
    (["profile", "diff", "nobody"], 3, "no profile 'nobody'"),
    (["profile", "diff", "alpha", "nonsense"], 10, "no revision"),
    (["profile", "restore", "alpha"], 2, "missing option '--to'"),
    (["profile", "restore", "alpha", "--to", "nonsense"], 10, "no revision"),
    (["profile", "restore", "nobody", "--to", "HEAD"], 10, "not in revision"),
    (["profile", "redo"], 11, "nothing to redo"),
    (["profile", "trash", "restore", "nonsense"], 21, "no trash entry"),
    (["profile", "trash", "restore", "../../.."], 21, "no trash entry"),
    (["profile", "trash", "purge"], 2, "purge needs one of"),
    (["profile", "trash", "purge", "x", "--all"], 2, "purge needs one of"),
    (["profile", "trash", "purge", "nonsense"], 21, "no trash entry"),
    (["profile", "trash", "purge", "--older-than", "long"], 2, "is not an age"),
    (["profile", "trash", "purge", "--older-than", "999999999w"], 2, "is not an age"),
    (["profile", "trash", "purge", "--older-than", "-1d"], 2, "is not an age"),
]  # fmt: skip
BAD += [
    (["profile", "create", "--platform", "whatsapp", "--", bad], 8, text)
    for bad, text in {
        "": "'' is not a profile id",
        "-x": "'-x' is not a profile id",
        "../x": "is not a profile id",
        ".git": "is not a profile id",
        "a b": "is not a profile id",
        "é": "is not a profile id",
        "a\nb": r"'a\nb' is not a profile id",
        "\x1b[31mx": r"'\x1b[31mx' is not a profile id",
        "x" * 33: "is not a profile id",
        "NUL": "reserved device name",
    }.items()
]


@pytest.mark.parametrize(
    ("arguments", "code", "text"), BAD, ids=[" ".join(row[0])[:50] or "-" for row in BAD]
)
def test_bad_input_is_one_line_and_changes_nothing(home, arguments, code, text):
    before = home.snapshot()
    result = home.run(*arguments)
    assert result.code == code, result
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(errors(result)) == 1
    assert text in lines[0]
    assert all(line.startswith("tweakio: hint: ") for line in lines[1:])
    assert len(lines) <= 2
    assert max(len(line) for line in lines) < 600
    assert "hunter2" not in result.err
    assert home.snapshot() == before


@pytest.mark.parametrize("home", ["missing", "default", "empty"])
@pytest.mark.parametrize(
    ("command", "code", "text", "hint"),
    [
        ("undo", 11, "there is nothing to undo", "there is no history yet"),
        ("redo", 11, "there is nothing to redo", "there is no history yet"),
        ("trash restore x", 21, "no trash entry 'x'", "there is no trash yet"),
        ("trash purge x", 21, "no trash entry 'x'", "there is no trash yet"),
    ],
)
def test_before_there_is_anything(tmp_path, home, command, code, text, hint):
    """A home that was named and is missing is a mistake; the default one is only new."""
    cli = Cli(tmp_path)
    if home == "empty":
        cli.home.mkdir()
    if home == "missing":
        code, text = 12, f"{cli.home} does not exist"
        hint = "give another --home, or create a profile to make it"
    changes = {"TWEAKIO_HOME": UNSET} if home == "default" else {}
    result = cli.run("profile", *command.split(), **changes)
    assert result.code == code
    assert result.err == f"tweakio: error: {text}\ntweakio: hint: {hint}\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["home"] * (home == "empty")


@pytest.mark.parametrize("make", ["work tree", "bare"])
def test_somebody_elses_repository_is_refused(tmp_path, make):
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    cli = Cli(tmp_path)
    cli.home.mkdir()
    bare = ["--bare"] if make == "bare" else []
    subprocess.run([git, "init", "-q", *bare, str(cli.home)], check=True, env=environment(tmp_path))
    before = cli.snapshot()
    for arguments in (NEW, ["profile", "list"], ["profile", "undo"]):
        result = cli.run(*arguments)
        assert (result.code, len(errors(result))) == (13, 1)
    assert cli.snapshot() == before


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_may_not_be_written(tmp_path):
    cli = Cli(tmp_path)
    cli.home.mkdir(mode=0o500)
    result = cli.run(*NEW)
    assert (result.code, len(errors(result))) == (19, 1)


class TestUnexpected:
    BREAK = (
        "import sys\n"
        "from tweakio.manager import ProfileManager\n"
        "def broken(*_, **__):\n"
        "    raise {error}\n"
        "ProfileManager.list_profiles = broken\n"
        "from tweakio.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            ("KeyError('x')", "internal error: KeyError: 'x'"),
            ("ValueError('a\\nb\\x1b')", r"internal error: ValueError: a\nb\x1b"),
            ("RecursionError", "internal error: RecursionError"),
        ],
    )
    @pytest.mark.parametrize("way", [[], ["--tag", "x"]], ids=["lane", "typer"])
    def test_is_one_line(self, home, error, text, way):
        source = self.BREAK.format(error=error)
        result = home.python(source, "profile", "list", *way)
        assert result.code == 70
        assert result.err.splitlines()[0] == f"tweakio: error: {text}"
        assert "--debug" in result.err.splitlines()[1]
        assert "Traceback" not in result.err

    @pytest.mark.parametrize(
        "error", ["MemoryError", "ImportError('x.so: cannot open: Too many open files')"]
    )
    @pytest.mark.parametrize("way", [[], ["--tag", "x"]], ids=["lane", "typer"])
    def test_a_limit_is_no_mistake_of_ours(self, home, error, way):
        result = home.python(self.BREAK.format(error=error), "profile", "list", *way)
        assert (result.code, len(errors(result))) == (17, 1)

    def test_debug_shows_where(self, home):
        source = self.BREAK.format(error="KeyError('x')")
        result = home.python(source, "--debug", "profile", "list")
        assert result.code == 70
        assert "Traceback" in result.err
        assert "broken" in result.err

    def test_an_error_of_the_operating_system_has_its_code(self, home):
        source = self.BREAK.format(error="OSError(28, 'No space left on device')")
        result = home.python(source, "profile", "list")
        assert (result.code, len(errors(result))) == (18, 1)


@posix
class TestStreams:
    def run(self, cli, command, **streams):
        return subprocess.run(
            command,
            env=environment(cli.base),
            cwd=cli.base,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            **streams,
        )

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    @pytest.mark.parametrize(
        "arguments",
        [
            ["profile", "list"],
            ["profile", "list", "--json"],
            ["profile", "history"],
            ["repo", "path"],
            ["--version"],
            ["-h"],
        ],
        ids=" ".join,
    )
    def test_a_full_disk_behind_stdout(self, home, arguments):
        with open("/dev/full", "wb") as full:
            done = self.run(home, [*COMMAND, *arguments], stdout=full)
        assert done.returncode == 18
        lines = done.stderr.decode().splitlines()
        assert lines[0].startswith("tweakio: error: ")
        assert "No space left" in lines[0]
        assert len(lines) == 2

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    def test_a_full_disk_behind_stderr_changes_no_code(self, home):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*COMMAND, "profile", "status", "nobody"],
                env=environment(home.base),
                stdout=subprocess.DEVNULL,
                stderr=full,
                timeout=TIMEOUT,
            )
        assert done.returncode == 3

    @pytest.mark.parametrize(
        "arguments", [["profile", "list"], ["profile", "history"], ["-h"]], ids=" ".join
    )
    def test_a_reader_that_leaves(self, home, arguments):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = self.run(home, [*COMMAND, *arguments], stdout=writer)
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")

    @pytest.mark.parametrize("arguments", ["profile list", "profile history", "repo path"])
    def test_a_closed_stdout(self, home, arguments):
        line = f'exec "$0" -m tweakio {arguments} >&-'
        done = self.run(home, ["sh", "-c", line, sys.executable])
        assert done.returncode == 17
        assert b"standard output is closed" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_closed_streams_never_become_a_file_of_ours(self, tmp_path):
        cli = Cli(tmp_path)
        source = (
            "import os; from tweakio.cli import main; main(['profile', 'list'])\n"
            "null = os.stat(os.devnull)\n"
            "os._exit(sum(os.path.samestat(os.fstat(number), null) for number in range(3)))\n"
        )
        closed = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, source]
        assert self.run(cli, closed).returncode == 3
        line = 'exec "$0" -m tweakio profile create a --platform whatsapp <&- >&- 2>&-'
        self.run(cli, ["sh", "-c", line, sys.executable])
        assert cli.ok("profile", "list").rows[0][:3] == ["a", "whatsapp", "inactive"]

    def test_ctrl_c_while_waiting(self, tmp_path):
        cli = Cli(tmp_path)
        cli.create("alpha")
        with Holder(cli, "alpha"):
            before = cli.snapshot()
            process = cli.start(
                *[*COMMAND, "-vv", "--debug", "profile", "activate", "alpha", "--timeout", "50"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A shell starts what runs in its background with SIGINT ignored.
                preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
            assert process.stderr is not None
            while b"waiting for alpha" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
            assert cli.snapshot() == before
        assert process.returncode == 130
        assert out == b""
        assert err.splitlines()[-1] == b"tweakio: interrupted"
        assert b"Traceback" not in err

    def test_sigterm_ends_it(self, tmp_path):
        cli = Cli(tmp_path)
        cli.create("alpha")
        with Holder(cli, "alpha"):
            process = cli.start(
                *[*COMMAND, "-v", "profile", "activate", "alpha"], stderr=subprocess.PIPE
            )
            assert process.stderr is not None
            while b"waiting for alpha" not in process.stderr.readline():
                assert process.poll() is None
            process.terminate()
            process.communicate(timeout=TIMEOUT)
        assert process.returncode == -signal.SIGTERM
        assert cli.ok("profile", "activate", "alpha").code == 0

    def test_characters_that_the_output_lacks(self, tmp_path):
        cli = Cli(tmp_path)
        cli.ok("profile", "create", "a", "--platform", "whatsapp", "--tag", "é")
        ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        assert cli.ok("profile", "list", **ascii_only).rows[0][5] == "\\xe9"
        assert "\\u00e9" in cli.ok("profile", "list", "--json", **ascii_only).out


def test_a_mistyped_id_does_not_pass_as_verified(tmp_path):
    cli = Cli(tmp_path)
    cli.create("alpha")
    result = cli.run("profile", "snapshot", "verify", "alpa")
    assert (result.code, errors(result)) == (3, ["tweakio: error: no profile 'alpa'"])
    result = cli.ok("profile", "snapshot", "verify", "alpha")
    assert result.err == "tweakio: there is no snapshot of 'alpha'\n"
    assert cli.ok("vault", "init", "--file").lines[1] == "1 recipient, sealed 0 sessions"
