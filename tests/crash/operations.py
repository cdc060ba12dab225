"""The operations whose every system call is broken: one table.

To add one, write what it needs before (``prepare``, in a home of its own) and what it does
(``run``), and put it into the table.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.invariants import git
from tweakio import ProfileManager, clone_repository
from tweakio.snapshots.retention import Keep
from tweakio.vault import confirmed

__all__ = ["OPERATIONS", "Operation", "fill", "on_an_overlay"]

Prepare = Callable[[ProfileManager, Path], object]
Run = Callable[[ProfileManager, Any], object]


@dataclass(frozen=True)
class Operation:
    """One row.

    Attributes:
        run: the operation; its second argument is what ``begin`` returned.
        prepare: makes the home; not called through the fault injection.
        begin: what the same process does before the operation, such as taking a lock.
        between: states besides old and new that a crash may leave, as functions that
            produce them: for operations that are more than one commit.
        dirty: ``edits``: the home has edits by hand, which the next change settles;
            ``damage``: it has damage that stays until the operation mends it.
        purges: it removes data on purpose.
        pushes: it changes nothing here but what is known of a remote.
        lasting: a disk on which everything fails does not let it be taken back either.
        keeps: files of the prepared home whose bytes must still be somewhere below it.
        changes: False if old and new state look the same to a user.
        looks: it changes nothing at all.
        varies: profiles that the next command makes if the operation did not, so that
            their time and fingerprint tell nothing.
        permissions: False if something else than tweakio wrote the home's files.
        rare: only the long form tries it, because its calls are those of another row.
        first: what the next command is preceded by, where no other works before.
    """

    run: Run
    prepare: Prepare | None = None
    begin: Callable[[ProfileManager], Any] | None = None
    between: tuple[Run, ...] = ()
    dirty: Literal["", "edits", "damage"] = ""
    purges: bool = False
    lasting: bool = False
    pushes: bool = False
    keeps: tuple[str, ...] = ()
    changes: bool = True
    looks: bool = False
    varies: tuple[str, ...] = ()
    permissions: bool = True
    rare: bool = False
    first: Run | None = None


def fill(directory: Path, label: str) -> None:
    """Put into a profile what a browser would: nested files, a dangling link, a session."""
    default = directory / "browser_profile" / "Default"
    (default / "Local Storage").mkdir(parents=True)
    (default / "Cookies").write_bytes(f"cookies of {label}".encode() * 40)
    (default / "Local Storage" / "000003.log").write_bytes(f"keys of {label}".encode())
    (directory / "browser_profile" / "SingletonLock").symlink_to(f"{label}-4711")
    (directory / "session.json").write_text(f'{{"cookies": ["{label}"], "origins": []}}\n')


def three(manager: ProfileManager, home: Path) -> None:
    """Profiles a (selected), b and c, each with data of its own."""
    for profile_id, platform in (("a", "whatsapp"), ("b", "telegram"), ("c", "discord")):
        manager.create_profile(profile_id, platform, tags=[f"tag-{profile_id}"])
        fill(home / "profiles" / profile_id, profile_id)
    manager.select_profile("a")


def after(*steps: Run) -> Prepare:
    """``three`` and then some operations."""

    def prepare(manager: ProfileManager, home: Path) -> None:
        three(manager, home)
        for step in steps:
            step(manager, home)

    return prepare


def show(manager: ProfileManager, _: object) -> None:
    """All that is read of history and of one profile."""
    assert manager.get_profile("b").note == "x"
    assert "b" in manager.history("b")[0].profiles
    manager.show("HEAD")
    manager.diff("b", "HEAD~1")
    manager.trash()


def settle(manager: ProfileManager, _: object) -> None:
    """An empty change: it only adopts and rescues what people did."""
    with manager.repository.transaction("settle"):
        pass


# What happens to a home, as steps of ``after``


def truncate(_: ProfileManager, home: Path) -> None:
    path = home / "profiles" / "b" / "metadata.json"
    path.write_bytes(path.read_bytes()[:40])


def lose(_: ProfileManager, home: Path) -> None:
    (home / "profiles" / "b" / "metadata.json").unlink()


def edit(_: ProfileManager, home: Path) -> None:
    path = home / "profiles" / "b" / "metadata.json"
    path.write_bytes(path.read_bytes().replace(b'"note": ""', b'"note": "by hand"'))
    assert b"by hand" in path.read_bytes()


def intrude(manager: ProfileManager, home: Path) -> None:
    """A directory that looks like a profile, and a real one that a reset took from HEAD."""
    stranger = home / "profiles" / "stranger"
    shutil.copytree(home / "profiles" / "b", stranger, symlinks=True)
    (stranger / "session.json").write_text('{"cookies": ["stranger"]}')


def new_session(_: ProfileManager, home: Path) -> None:
    """Other data than before, so that mixing them up is seen."""
    shutil.rmtree(home / "profiles" / "b" / "browser_profile" / "Default", ignore_errors=True)
    fill(home / "profiles" / "b", "b-again")


def reset_by_hand(_: ProfileManager, home: Path) -> None:
    mask = os.umask(0o077)
    done = git(home / "profiles", "reset", "--hard", "HEAD~1")
    os.umask(mask)
    assert done.returncode == 0, done.stderr


def delete(profile_id: str, **options: Any) -> Run:
    return lambda manager, _: manager.delete_profile(profile_id, **options)


def recover(mode: Literal["soft", "hard"]) -> Run:
    return lambda manager, _: manager.recover_profile("b", mode)


def note(text: str, *profile_ids: str) -> Run:
    return lambda manager, _: manager.update_profiles(list(profile_ids), note=text)


def undo(manager: ProfileManager, _: object) -> None:
    manager.undo()


def log_out(manager: ProfileManager, _: object) -> None:
    manager.reset_login("b")


def first_entry(manager: ProfileManager) -> str:
    """The newest entry of the trash."""
    return manager.trash()[0].name


def from_trash(manager: ProfileManager, name: str) -> None:
    manager.restore_from_trash(name)


def activate(profile_id: str) -> Callable[[ProfileManager], object]:
    return lambda manager: manager.activate_profile(profile_id)


def deleted_revision(manager: ProfileManager) -> str:
    return manager.history("b")[-1].revision


def let_go(manager: ProfileManager, _: object) -> None:
    """Refusing to deactivate, a program still lets go; the next change writes it down."""
    manager.locks.release_all()


def activate_and_let_go(profile_id: str) -> Run:
    """Interrupted after the commit, an activation has happened but holds nothing."""

    def run(manager: ProfileManager, _: object) -> None:
        manager.locks.acquire(profile_id)
        manager._activate(profile_id, os.getpid())
        manager.locks.release(profile_id)

    return run


def many_changes(manager: ProfileManager, home: Path) -> None:
    for number in range(6):
        manager.update_profiles(["b", "c"], note=f"note {number}")


def single_account(_: ProfileManager, home: Path) -> None:
    """The layout of a tweakio without profiles."""
    home.mkdir(mode=0o700)
    fill(home, "single")


def sdk_account(manager: ProfileManager, home: Path) -> None:
    """An account of tweakio-sdk, beside the home's profiles."""
    three(manager, home)
    source = home / "sdk"
    source.mkdir(mode=0o700)
    fill(source, "sdk")
    (source / "browser_profile" / "empty").mkdir()


def migrate_sdk(manager: ProfileManager, _: object) -> None:
    from tweakio.migration import SdkPlaces, migrate_sdk

    source = manager.home / "sdk"
    migrate_sdk(
        manager.repository,
        SdkPlaces(source / "session.json", source / "none.pkl", source / "browser_profile"),
        command="repo migrate",
    )


def remote(home: Path) -> str:
    """Where the home's own remote is: in it, so that each copy has one."""
    return os.fspath(home / "remote.git")


def with_remote(manager: ProfileManager, home: Path) -> None:
    """A remote that has what the home has, and what another home has done since."""
    three(manager, home)
    done = subprocess.run(["git", "init", "-q", "--bare", remote(home)], check=False)
    assert done.returncode == 0
    manager.remotes.add("origin", remote(home))
    manager.remotes.push()
    clone_repository(remote(home), home / "other")
    with ProfileManager(home / "other") as other:
        other.update_profiles(["b"], note="theirs")
        other.create_profile("d", "custom")
        other.delete_profile("c")
        other.remotes.push()
    shutil.rmtree(home / "other")
    manager.update_profiles(["b"], add_tags=["ours"])
    manager.remotes.remove("origin")


def only_remote(manager: ProfileManager, home: Path) -> None:
    """A home that has nothing but a remote to clone."""
    with ProfileManager(home.with_name("source")) as source:
        home.mkdir(mode=0o700)
        three(source, home.with_name("source"))
        subprocess.run(["git", "init", "-q", "--bare", remote(home)], check=True)
        source.remotes.add("origin", remote(home))
        source.remotes.push()
    shutil.rmtree(home.with_name("source"))


def name_remote(manager: ProfileManager) -> None:
    manager.remotes.add("origin", remote(manager.home))


def pull(manager: ProfileManager, _: object) -> None:
    assert manager.remotes.pull().created == ("d",)


def pull_here(manager: ProfileManager, home: Path) -> None:
    name_remote(manager)
    pull(manager, home)


def snap(manager: ProfileManager, _: object) -> None:
    assert manager.snapshots.create("b").is_new


def data_of(label: str) -> Run:
    def run(manager: ProfileManager, home: Path) -> None:
        shutil.rmtree(home / "profiles" / "b" / "browser_profile" / "Default")
        fill(home / "profiles" / "b", label)
        closed(manager, home)

    return run


other_data, third_data = data_of("b-again"), data_of("b-for-the-third-time")


def prune(last: int) -> Run:
    return lambda manager, _: manager.snapshots.prune("b", Keep(last=last))


def lose_index(_: ProfileManager, home: Path) -> None:
    path = home / "profiles" / ".git" / "index"
    path.write_bytes(path.read_bytes()[:100])


def lose_head(_: ProfileManager, home: Path) -> None:
    git_dir = home / "profiles" / ".git"
    (git_dir / "HEAD").write_bytes(b"garbage\n")
    (git_dir / "refs" / "heads" / "main").unlink()


def lose_objects(_: ProfileManager, home: Path) -> None:
    """Cut every pack short and lose its index."""
    packs = home / "profiles" / ".git" / "objects" / "pack"
    assert list(packs.glob("*.pack"))
    for path in packs.iterdir():
        if path.suffix == ".idx":
            path.unlink()
        elif path.suffix == ".pack":
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-30])
            path.chmod(0o444)


def lose_git(_: ProfileManager, home: Path) -> None:
    shutil.rmtree(home / "profiles" / ".git")


def lose_local(_: ProfileManager, home: Path) -> None:
    """Leave what a clone has."""
    git_dir = home / "profiles" / ".git"
    shutil.rmtree(git_dir / "tweakio")
    (git_dir / "hooks" / "pre-commit").unlink()
    (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")


def change_hook(_: ProfileManager, home: Path) -> None:
    hook = home / "profiles" / ".git" / "hooks" / "pre-commit"
    hook.write_bytes(hook.read_bytes().replace(b"#!/bin/sh", b"#!/bin/nothing"))


SECOND = "age1j6u87uatkr28r3ly290zc6yj0xkeurrl0qps9az4dsw9fycxjqzshlz48c"


def renew_session(_: ProfileManager, home: Path) -> None:
    (home / "profiles" / "b" / "session.json").write_text('{"cookies": ["renewed"]}')


def make_vault(manager: ProfileManager, _: object) -> None:
    manager.vault.init(in_file=True)


def add_recipient(manager: ProfileManager, _: object) -> None:
    manager.vault.add_recipients([SECOND])


def seal_for_one(manager: ProfileManager, _: object) -> None:
    """What a second recipient gets who comes by a merge, and is confirmed only afterwards."""
    both = manager.vault.recipients()
    confirmed.note(manager.layout, [item for item in both if item != SECOND])
    manager.vault.reseal()
    confirmed.note(manager.layout, both)


def doctor(manager: ProfileManager, _: object) -> None:
    report = manager.doctor(fix=True, cut=True)
    assert report.healthy, report


def foreign(manager: ProfileManager, home: Path) -> None:
    """What other programs keep, beside the home's profiles."""
    three(manager, home)
    folder = home / "foreign"
    folder.mkdir(mode=0o700)
    fill(folder, "foreign")
    data = (folder / "browser_profile").rename(folder / "chrome")
    (data / "SingletonLock").unlink()
    (data / "Local State").write_text("{}")
    (folder / "session.json").unlink()
    stored = [{"name": "k", "value": "of a foreign state"}]
    origins = [{"origin": "https://web.telegram.org", "localStorage": stored}]
    (folder / "state.json").write_text(json.dumps({"cookies": [], "origins": origins}))


def import_foreign(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_folder

    manager.archives.bring_in(from_folder(manager.home / "foreign", "telegram"), source="folder")


def import_user_data(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_user_data_dir

    manager.archives.bring_in(
        from_user_data_dir(manager.home / "foreign" / "chrome", "d", "whatsapp")
    )


def import_storage_state(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_storage_state

    manager.archives.bring_in(
        from_storage_state(manager.home / "foreign" / "state.json", "d", "telegram")
    )


def table(manager: ProfileManager, home: Path) -> None:
    """What other programs keep, and a table that names it."""
    foreign(manager, home)
    (home / "foreign" / "table.csv").write_text(
        "profile_id,platform,tags,user_data_dir,storage_state\n"
        "d,whatsapp,x;y,chrome,\ne,telegram,,,state.json\nf,custom,z,,\n"
    )


def import_csv(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_csv

    manager.archives.bring_in(from_csv(manager.home / "foreign" / "table.csv"))


def person(manager: ProfileManager, home: Path) -> None:
    """The home directory of somebody who used tweakio-sdk and camouchat-browser."""
    foreign(manager, home)
    share = home / "person" / ".local" / "share"
    stored = share / "TweakioWhatsApp" / "BrowserManager"
    stored.mkdir(parents=True)
    (home / "foreign" / "state.json").rename(stored / "StorageState.json")
    chrome = home / "foreign" / "chrome"
    shutil.copytree(chrome, home / "person" / ".cache" / "TweakioWhatsApp")
    for platform, name in (("whatsapp", "one"), ("telegram", "two")):
        profile = share / "CamouChat" / "platforms" / platform / name
        profile.mkdir(parents=True)
        (profile / "metadata.json").write_text(json.dumps({"profile_id": name}))
        if name == "one":
            shutil.copytree(chrome, profile / "cache")


def import_sdk_home(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_sdk_home

    manager.archives.bring_in(from_sdk_home(manager.home / "person", "d"))


def import_camouchat_home(manager: ProfileManager, _: object) -> None:
    from tweakio.importing import from_camouchat_home

    found = manager.archives.bring_in(from_camouchat_home(manager.home / "person"))
    assert len(found) == 2


def leased(manager: ProfileManager, home: Path) -> None:
    """A home with leases, none of which expires or is renewed by itself meanwhile."""
    three(manager, home)
    manager.leases.use("file", ttl=86400.0)


def exported(manager: ProfileManager, home: Path) -> None:
    """A file that has b's login, and b gone."""
    (home / "profiles" / "b" / "browser_profile" / "SingletonLock").unlink()
    manager.archives.export(["b"], home / "b.zip", with_session=True)
    manager.delete_profile("b", purge=True)


def closed(_: ProfileManager, home: Path) -> None:
    (home / "profiles" / "b" / "browser_profile" / "SingletonLock").unlink()


def export(manager: ProfileManager, _: object) -> None:
    manager.archives.export(["b"], manager.home / "b.zip", with_session=True)


def import_file(manager: ProfileManager, _: object) -> None:
    manager.archives.import_file(manager.home / "b.zip")


def on_an_overlay(manager: ProfileManager) -> None:
    """As on an overlay that has the home in a lower layer: no directory of it is renamed."""
    lower = set()
    for directory, names, _ in os.walk(manager.home):
        for name in names:
            status = os.lstat(os.path.join(directory, name))
            lower.add((status.st_dev, status.st_ino))
    rename = os.rename

    def refuse(source: Any, target: Any, **more: Any) -> None:
        status = os.lstat(source)
        if (status.st_dev, status.st_ino) in lower:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        rename(source, target, **more)

    os.rename = refuse


OPERATIONS: dict[str, Operation] = {
    # "init" is what the first operation in an empty place does besides its own work.
    "init": Operation(
        lambda manager, _: manager.create_profile("a", "whatsapp", tags=["first"]),
        between=(lambda manager, _: manager.repository,),
    ),
    "create": Operation(lambda manager, _: manager.create_profile("d", "custom"), three),
    "create-batch": Operation(
        lambda manager, _: manager.create_profiles(["d", "e", "f"], "custom", note="three"), three
    ),
    "select-switch": Operation(lambda manager, _: manager.select_profile("b"), three),
    "activate": Operation(
        lambda manager, _: manager.activate_profile("b"),
        three,
        between=(activate_and_let_go("b"),),
    ),
    "activate-switch": Operation(
        lambda manager, _: manager.activate_profile("c"),
        three,
        begin=activate("b"),
        between=(activate_and_let_go("c"),),
    ),
    "deactivate": Operation(
        lambda manager, _: manager.deactivate_profile(),
        three,
        begin=activate("b"),
        between=(let_go,),
    ),
    "close": Operation(
        lambda manager, _: manager.close(), three, begin=activate("b"), between=(let_go,)
    ),
    "delete": Operation(delete("b"), three),
    "delete-copied": Operation(delete("b"), three, begin=on_an_overlay),
    "purge-copied": Operation(
        delete("b", purge=True), three, begin=on_an_overlay, purges=True, rare=True
    ),
    "undo-copied": Operation(undo, after(delete("b")), begin=on_an_overlay, rare=True),
    "recover-copied": Operation(
        recover("hard"),
        after(truncate),
        begin=on_an_overlay,
        dirty="damage",
        keeps=("profiles/b/metadata.json",),
        rare=True,
    ),
    "delete-batch": Operation(lambda manager, _: manager.delete_profiles(["b", "c"]), three),
    "delete-purge": Operation(delete("b", purge=True), three, purges=True),
    "delete-force": Operation(delete("a", force=True), three),
    "undo-create": Operation(undo, after(lambda m, _: m.create_profile("d", "custom"))),
    "undo-delete": Operation(undo, after(delete("b"))),
    "redo": Operation(lambda manager, _: manager.redo(), after(delete("b"), undo)),
    "undo-recover-hard": Operation(undo, after(recover("hard"), new_session)),
    "recover-soft-truncated": Operation(
        recover("soft"), after(truncate), dirty="damage", keeps=("profiles/b/metadata.json",)
    ),
    "recover-soft-missing": Operation(recover("soft"), after(lose), dirty="damage"),
    "recover-hard": Operation(
        recover("hard"), after(truncate), dirty="damage", keeps=("profiles/b/metadata.json",)
    ),
    "restore-older": Operation(
        lambda manager, _: manager.restore("b", "HEAD~2"), after(note("new", "b"), note("x", "c"))
    ),
    "restore-deleted": Operation(
        lambda manager, revision: manager.restore("b", revision),
        after(note("new", "b"), delete("b"), note("x", "c")),
        begin=deleted_revision,
    ),
    "restore-replaced": Operation(
        # The id is another profile's by now, which has to make room.
        lambda manager, revision: manager.restore("b", revision),
        after(delete("b"), lambda m, _: m.create_profile("b", "custom"), new_session),
        begin=deleted_revision,
    ),
    "trash-restore-deleted": Operation(from_trash, after(delete("b")), begin=first_entry),
    "trash-restore-reset": Operation(
        from_trash, after(recover("hard"), new_session), begin=first_entry
    ),
    "trash-purge": Operation(
        lambda manager, _: manager.purge_trash(),
        after(recover("hard"), new_session, delete("b")),
        between=(lambda manager, _: manager.purge_trash(first_entry(manager)),),
        purges=True,
    ),
    "lease-take": Operation(
        lambda manager, _: manager.activate_profile("b"),
        leased,
        between=(activate_and_let_go("b"),),
        rare=True,
    ),
    "lease-renew": Operation(
        lambda manager, _: manager.record_login("b"), leased, begin=activate("b"), rare=True
    ),
    "lease-let-go": Operation(
        lambda manager, _: manager.deactivate_profile(),
        leased,
        begin=activate("b"),
        between=(let_go,),
        rare=True,
    ),
    "login": Operation(lambda manager, _: manager.record_login("b"), three),
    "logout": Operation(log_out, three),
    "undo-logout": Operation(undo, after(log_out, new_session)),
    "vault-init": Operation(make_vault, three),
    "vault-login": Operation(
        lambda manager, _: manager.record_login("b"), after(make_vault, renew_session)
    ),
    "vault-logout": Operation(log_out, after(make_vault)),
    "vault-recipients-add": Operation(add_recipient, after(make_vault, delete("c"))),
    "vault-recipients-remove": Operation(
        lambda manager, _: manager.vault.remove_recipient(SECOND), after(make_vault, add_recipient)
    ),
    "vault-reseal": Operation(
        lambda manager, _: manager.vault.reseal(),
        after(make_vault, add_recipient, seal_for_one),
    ),
    "expire": Operation(lambda manager, _: manager.record_expiry(["b", "c"]), three),
    "update": Operation(note("changed", "b", "c"), three),
    "adopt": Operation(note("x", "c"), after(edit), between=(settle,), dirty="edits"),
    "rescue": Operation(note("x", "c"), after(intrude), between=(settle,), dirty="edits"),
    "rescue-reset": Operation(
        # "git reset --hard" to before a create leaves its untracked parts behind.
        note("x", "c"),
        after(
            lambda m, _: m.create_profile("d", "custom"),
            lambda m, home: (home / "profiles" / "d" / "session.json").write_text('{"d": 1}'),
            reset_by_hand,
        ),
        between=(settle,),
        dirty="edits",
        permissions=False,
    ),
    "bring-back": Operation(
        note("x", "c"), after(delete("b"), reset_by_hand), between=(settle,), dirty="edits",
        permissions=False,
    ),
    "open-clone": Operation(
        lambda manager, _: manager.list_profiles(), after(lose_local), changes=False
    ),
    "migrate-home": Operation(
        # Any command does it first; a look does, too.
        lambda manager, _: manager.list_profiles(),
        single_account,
        between=(lambda manager, _: manager.repository,),
        dirty="edits",
        changes=False,
        varies=("default",),
    ),
    "migrate-sdk": Operation(migrate_sdk, sdk_account),
    "doctor-index": Operation(doctor, after(lose_index), dirty="edits", changes=False),
    "doctor-head": Operation(
        doctor, after(lose_head), dirty="edits", changes=False, first=doctor
    ),
    "doctor-objects": Operation(
        doctor, after(lose_objects), dirty="edits", changes=False, first=doctor
    ),
    "doctor-git": Operation(doctor, after(lose_git), dirty="edits", changes=False, first=doctor),
    "doctor-hook": Operation(doctor, after(change_hook), dirty="edits", changes=False),
    "clone": Operation(
        lambda manager, _: clone_repository(remote(manager.home), manager.home), only_remote
    ),
    "pull": Operation(pull, with_remote, begin=name_remote),
    "undo-pull": Operation(undo, lambda m, home: (with_remote(m, home), pull_here(m, home))),
    "push": Operation(
        lambda manager, _: manager.remotes.push("other"),
        after(lambda m, home: subprocess.run(["git", "init", "-q", "--bare", remote(home)])),
        begin=lambda manager: manager.remotes.add("other", remote(manager.home)),
        # What failed after the other side had taken it over has happened there.
        between=(lambda manager, _: manager.remotes.push("other"),),
        pushes=True,
    ),
    "snapshot-create": Operation(lambda manager, _: manager.snapshots.create("b"), after(closed)),
    "snapshot-restore": Operation(
        lambda manager, _: manager.snapshots.restore("b"), after(closed, snap, other_data)
    ),
    "undo-snapshot-restore": Operation(
        undo, after(closed, snap, other_data, lambda m, _: m.snapshots.restore("b"))
    ),
    "snapshot-prune": Operation(
        prune(1),
        after(closed, snap, other_data, snap, third_data, snap),
        between=(prune(2),),
        purges=True,
    ),
    "list": Operation(lambda manager, _: manager.list_profiles(), three, changes=False, looks=True),
    "show": Operation(show, after(note("x", "b")), changes=False, looks=True),
    "status": Operation(
        lambda manager, _: manager.browser_status("b"), three, changes=False, looks=True
    ),
    "gc": Operation(lambda manager, _: manager.gc(), after(many_changes), changes=False),
    "clone-profile": Operation(
        lambda manager, _: manager.clone_profile("b", "d", with_session=True), after(closed)
    ),
    "export": Operation(export, after(closed), lasting=True),
    "import": Operation(import_file, after(exported)),
    "import-user-data-dir": Operation(import_user_data, foreign, rare=True),
    "import-storage-state": Operation(import_storage_state, foreign, rare=True),
    "import-csv": Operation(import_csv, table, rare=True),
    "import-sdk-home": Operation(import_sdk_home, person, rare=True),
    "import-camouchat-home": Operation(import_camouchat_home, person, rare=True),
    # A user data directory and a storage state, as one commit, into a vault.
    "import-foreign": Operation(
        import_foreign, lambda m, home: (foreign(m, home), make_vault(m, home))
    ),
}  # fmt: skip
