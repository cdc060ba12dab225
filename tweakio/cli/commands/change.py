"""``tweakio profile set``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tweakio.cli.completion import complete_platforms
from tweakio.cli.options import (
    ColorScheme,
    Configs,
    DryRun,
    Locale,
    ProfileIds,
    Proxy,
    ProxyPassword,
    TimeZone,
    Window,
    parse_browser,
    parse_config,
)
from tweakio.cli.output import emit, notice
from tweakio.cli.selection import make_selection
from tweakio.errors import InvalidInputError, run

if TYPE_CHECKING:
    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager

__all__ = ["set_"]


class _Wishes(NamedTuple):
    """What is to change."""

    add: Sequence[str]
    remove: Sequence[str]
    note: str | None
    version: str | None
    config: Mapping[str, str | None]
    browser: Mapping[str, Any]


def set_(
    ctx: typer.Context,
    *,
    profile_ids: ProfileIds = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Add a tag; repeatable.")
    ] = None,
    untags: Annotated[
        list[str] | None,
        typer.Option("--untag", metavar="TAG", help="Take a tag away; repeatable."),
    ] = None,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A new note; '' removes it.")
    ] = None,
    platform_version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="'' removes it.")
    ] = None,
    configs: Configs = None,
    locale: Locale = None,
    timezone: TimeZone = None,
    window: Window = None,
    color_scheme: ColorScheme = None,
    proxy: Proxy = None,
    proxy_password: ProxyPassword = None,
    where_tags: Annotated[
        list[str] | None,
        typer.Option("--where-tag", metavar="TAG", help="Instead of ids: those with this tag."),
    ] = None,
    where_platform: Annotated[
        str | None,
        typer.Option(
            "--where-platform",
            metavar="NAME",
            help="Instead of ids: those of this platform.",
            autocompletion=complete_platforms,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Change settings of profiles; '' removes one, and KEY= a key."""
    state: State = ctx.obj
    config = parse_config(configs, removing=True)
    browser = parse_browser(
        removing=True,
        locale=locale,
        timezone=timezone,
        window=window,
        color_scheme=color_scheme,
        proxy=proxy,
        proxy_password=proxy_password,
    )
    wishes = _Wishes(tags or (), untags or (), note, platform_version, config, browser)
    if not any((tags, untags, note is not None, platform_version is not None, config, browser)):
        raise InvalidInputError(
            "nothing to set", hint="run 'tweakio profile set --help' to see what can be set"
        )
    selection = make_selection(
        profile_ids, where_tags, where_platform, "--where-tag and --where-platform"
    )
    with state.manager("profile set") as manager:
        ids = selection.resolve(manager)
        if dry_run:
            lines = [line for name in ids for line in _preview(manager, name, wishes)]
        else:
            manager.update_profiles(
                ids,
                add_tags=wishes.add,
                remove_tags=wishes.remove,
                note=wishes.note,
                platform_version=wishes.version,
                platform_config=wishes.config,
                browser=wishes.browser,
            )
            lines = [f"set {profile_id}" for profile_id in ids]
    emit("".join(f"{line}\n" for line in lines))
    if dry_run:
        notice("nothing was changed")


def _preview(manager: "ProfileManager", profile_id: str, wishes: _Wishes) -> list[str]:
    """The fields before and after, checked as the change itself would be."""
    from tweakio import schema
    from tweakio.cleartext import refuse_secrets
    from tweakio.cli.render import diff_lines
    from tweakio.editing import with_settings
    from tweakio.errors import ProfileCorruptedError
    from tweakio.models import FieldChange, ProfileDiff, composed, format_time

    profile = manager.get_profile(profile_id)
    if profile.status == "corrupted" or profile.created_at is None:
        raise ProfileCorruptedError(
            f"profile '{profile_id}' is corrupted: {profile.problem}",
            hint=run("tweakio profile recover", profile_id),
        )
    refuse_secrets(wishes.config, wishes.note)
    added = {manager.validator.validate_tag(tag) for tag in wishes.add}
    config: dict[str, Any] = {**profile.platform_config, **wishes.config}
    before = {
        "tags": sorted(profile.tags),
        "note": profile.note,
        "platform_version": profile.platform_version,
        "platform_config": dict(profile.platform_config) or None,
        "browser": dict(profile.browser) or None,
    }
    after = {
        "tags": sorted(({*profile.tags} | added) - {*map(composed, wishes.remove)}),
        "note": profile.note if wishes.note is None else wishes.note,
        "platform_version": before["platform_version"]
        if wishes.version is None
        else wishes.version or None,
        "platform_config": {key: item for key, item in config.items() if item is not None} or None,
        "browser": with_settings(profile.browser, wishes.browser),
    }
    identity = {
        "profile_id": profile.id,
        "platform": profile.platform,
        "created_at": format_time(profile.created_at),
        "last_used": format_time(profile.last_used or profile.created_at),
        "status": profile.status,
        "schema_version": schema.SCHEMA_VERSION,
    }
    schema.validate({**identity, **{key: item for key, item in after.items() if item is not None}})
    fields = tuple(
        FieldChange(key, before[key], after[key]) for key in after if before[key] != after[key]
    )
    first, *rest = diff_lines(ProfileDiff(profile.id, "changed", fields))
    return [f"would set {first.partition(' ')[0]}", *rest]
