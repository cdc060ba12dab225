"""``tweakio profile clone``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import Json, ProfileId
from tweakio.cli.output import emit, notice
from tweakio.cli.progress import WORTH_A_BAR, counted

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["clone"]


def clone(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    new_id: Annotated[
        str,
        typer.Argument(
            metavar="NEW", help="1 to 32 letters, digits, '_' and '-'.", show_default=False
        ),
    ],
    with_session: Annotated[
        bool, typer.Option("--with-session", help="Copy its login and browser data, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a profile with another one's settings."""
    from tweakio.cli.passphrase import unlock_for

    state: State = ctx.obj
    with state.manager("profile clone") as manager:
        unlock_for(manager, [manager.get_profile(profile_id)])
        total = manager.archives.content_size([profile_id]) if with_session else 0
        with counted("copying", total, worth=WORTH_A_BAR) as progress:
            profile = manager.clone_profile(
                profile_id, new_id, with_session=with_session, progress=progress
            )
    if with_session:
        notice(
            f"'{profile_id}' and '{profile.id}' now share one login; using both can make the "
            "service end it"
        )
    if as_json:
        from tweakio.cli.render import json_text, profile_json

        emit(json_text(profile_json(profile)))
    else:
        emit(f"cloned {profile_id} as {profile.id} ({profile.platform})\n")
