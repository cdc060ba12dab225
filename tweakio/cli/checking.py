"""``tweakio profile check``: looked at in browsers, shown, and told by the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import trust
from tweakio.cli import interruptible
from tweakio.cli.accounts import browser_of
from tweakio.cli.output import emit, is_terminal
from tweakio.cli.passphrase import unlock_for
from tweakio.cli.progress import counted
from tweakio.cli.render import checked_json, checked_row, json_text, plain_rows
from tweakio.errors import NotLoggedInError, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweakio.manager import ProfileManager

__all__ = ["check_profiles"]

_GOOD = ("logged_in", "in_use")


def check_profiles(
    manager: ProfileManager,
    ids: Sequence[str],
    *,
    jobs: int,
    timeout: float,
    executable: str | None,
    as_json: bool,
    force: bool = False,
) -> None:
    """Look at profiles, and print what was found.

    Args:
        manager: of the home.
        ids: which.
        jobs: so many browsers at a time.
        timeout: seconds for each page.
        executable: of the browser; None to look for one.
        as_json: print JSON.
        force: take another machine's locks on browser data for dead.

    Raises:
        UntrustedSettingsError: settings of one are not confirmed here; after the output.
        NotLoggedInError: one is not logged in, or could not be looked at; after the output.
    """
    from tweakio.login.check import check_profiles as check

    profiles = [manager.get_profile(profile_id) for profile_id in ids]
    unlock_for(manager, profiles)
    with counted("checking", len(profiles), worth=2) as progress:
        found = interruptible.run(
            lambda: check(
                manager,
                profiles,
                open_with=lambda profile: browser_of(
                    manager, profile, executable=executable, force=force
                ),
                jobs=jobs,
                timeout=timeout,
                progress=progress,
            )
        )
    if as_json:
        emit(json_text([checked_json(item) for item in found]))
    elif is_terminal() and found:
        from tweakio.cli.tables import checked_table

        emit(checked_table(found))
    else:
        emit(plain_rows(checked_row(item) for item in found))
    for profile, item in zip(profiles, found, strict=True):
        if item.state == "untrusted":
            trust.require(manager.repository, profile)
    bad = [item.profile_id for item in found if item.state not in _GOOD]
    if bad:
        from tweakio.changes import name_some

        raise NotLoggedInError(
            f"not known to be logged in: {name_some(bad)}",
            hint=run("tweakio profile login", bad[0]),
        )
