"""``tweakio profile login``, ``check``, ``open``, ``clean`` and ``du``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import (
    Browser,
    Force,
    Headed,
    Json,
    LoginTimeout,
    Phone,
    ProfileId,
    ProfileIds,
    QrPath,
    parse_seconds,
)
from tweakio.cli.output import emit, is_terminal, notice
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager

__all__ = ["check", "clean", "du", "login", "open_"]

_All = Annotated[bool, typer.Option("--all", help="All profiles.")]


def _chosen(manager: "ProfileManager", ids: list[str] | None, *, every: bool) -> list[str]:
    """The profiles that a command is about: named ones, each once, or all."""
    if bool(ids) == every:
        problem = "ids and --all were both given" if every else "no profile was given"
        raise InvalidInputError(problem, hint="name profiles, or give --all")
    if every:
        return [profile.id for profile in manager.list_profiles()]
    return list(dict.fromkeys(ids or ()))


def login(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    phone: Phone = None,
    headed: Headed = False,
    qr_file: QrPath = None,
    timeout: LoginTimeout = "300",
    browser: Browser = None,
    force: Force = False,
) -> None:
    """Log a profile in."""
    from tweakio.cli import accounts

    state: State = ctx.obj
    seconds = parse_seconds(timeout)
    with state.manager("profile login") as manager:
        accounts.log_in(
            manager,
            accounts.account(manager, profile_id, None),
            phone=phone,
            headed=headed,
            executable=browser,
            qr_file=qr_file,
            timeout=seconds,
            force=force,
        )


def check(
    ctx: typer.Context,
    *,
    profile_ids: ProfileIds = None,
    all_: _All = False,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="So many browsers at a time.")
    ] = 4,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="SECONDS", help="For each page to be clear.")
    ] = "30",
    as_json: Json = False,
    browser: Browser = None,
    force: Force = False,
) -> None:
    """Look whether profiles are still logged in."""
    from tweakio.cli.checking import check_profiles

    state: State = ctx.obj
    seconds = parse_seconds(timeout)
    if jobs < 1:
        raise InvalidInputError(f"--jobs needs a number from 1, not {jobs}", hint="give 1 or more")
    with state.manager("profile check") as manager:
        ids = _chosen(manager, profile_ids, every=all_)
        check_profiles(
            manager,
            ids,
            jobs=jobs,
            timeout=seconds,
            executable=browser,
            as_json=as_json,
            force=force,
        )


def open_(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The service's page by default.", show_default=False),
    ] = None,
    browser: Browser = None,
    force: Force = False,
) -> None:
    """Open a profile's browser in a window, until that is closed."""
    from tweakio.cli import accounts

    state: State = ctx.obj
    with state.manager("profile open") as manager:
        accounts.hold_open(
            manager,
            accounts.account(manager, profile_id, None),
            url,
            executable=browser,
            force=force,
        )


def clean(ctx: typer.Context, *, profile_ids: ProfileIds = None, all_: _All = False) -> None:
    """Empty the caches of profiles that nobody uses."""
    from tweakio.errors import BrowserLockedError, LockTimeoutError, ProfileActiveError

    state: State = ctx.obj
    with state.manager("profile clean") as manager:
        for profile_id in _chosen(manager, profile_ids, every=all_):
            try:
                freed = manager.clean_profile(profile_id)
            except (ProfileActiveError, LockTimeoutError, BrowserLockedError) as error:
                if not all_:
                    raise
                notice(f"left as it is: {error.message}")
            else:
                emit(f"cleaned {profile_id} ({freed} bytes)\n")


def du(ctx: typer.Context, *, profile_ids: ProfileIds = None, as_json: Json = False) -> None:
    """Show how much of the disk profiles take, by part."""
    from tweakio.cli.render import json_text, plain_rows, usage_json, usage_row

    state: State = ctx.obj
    with state.manager("profile du") as manager:
        ids = _chosen(manager, profile_ids, every=not profile_ids)
        found = [(profile_id, manager.disk_usage(profile_id)) for profile_id in ids]
    if as_json:
        emit(json_text([usage_json(*item) for item in found]))
    elif is_terminal() and found:
        from tweakio.cli.tables import usage_table

        emit(usage_table(found))
    else:
        emit(plain_rows(usage_row(*item) for item in found))
