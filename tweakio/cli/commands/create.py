"""``tweakio profile create``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_platforms
from tweakio.cli.options import (
    ColorScheme,
    Configs,
    Json,
    Locale,
    Proxy,
    ProxyPassword,
    TimeZone,
    Window,
    parse_browser,
    parse_config,
)
from tweakio.cli.output import emit
from tweakio.cli.progress import counted

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["create"]


def create(
    ctx: typer.Context,
    *,
    profile_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="1 to 32 letters, digits, '_' and '-'."),
    ],
    platform: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="whatsapp, telegram, discord, custom or an installed one.",
            show_default=False,
            autocompletion=complete_platforms,
        ),
    ],
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; repeatable.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", show_default=False)] = "",
    platform_version: Annotated[str | None, typer.Option(metavar="VERSION")] = None,
    configs: Configs = None,
    locale: Locale = None,
    timezone: TimeZone = None,
    window: Window = None,
    color_scheme: ColorScheme = None,
    proxy: Proxy = None,
    proxy_password: ProxyPassword = None,
    as_json: Json = False,
) -> None:
    """Create profiles: all of them or none."""
    state: State = ctx.obj
    config = parse_config(configs, removing=False)
    browser = parse_browser(
        removing=False,
        locale=locale,
        timezone=timezone,
        window=window,
        color_scheme=color_scheme,
        proxy=proxy,
        proxy_password=proxy_password,
    )
    with (
        state.manager("profile create") as manager,
        counted("creating", len(profile_ids)) as progress,
    ):
        profiles = manager.create_profiles(
            profile_ids,
            platform,
            tags=tags or (),
            note=note,
            platform_version=platform_version,
            platform_config=config or None,
            browser=browser or None,
            progress=progress,
        )
    if as_json:
        from tweakio.cli.render import json_text, profile_json

        emit(json_text([profile_json(profile) for profile in profiles]))
    else:
        emit("".join(f"created {profile.id} ({profile.platform})\n" for profile in profiles))
