"""The group ``tweakio repo lease``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import Json, ProfileId
from tweakio.cli.output import clean, emit, notice
from tweakio.cli.tree import SETTINGS, group

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["app", "release", "status", "use"]

_HERE = "tweakio.cli.commands.lease"

app = typer.Typer(
    cls=group({name: f"{_HERE}:{name}" for name in ("use", "status", "release")}), **SETTINGS
)


@app.callback()
def lease() -> None:
    """One machine at a time on each profile."""


def use(
    ctx: typer.Context,
    *,
    url: Annotated[str, typer.Argument(metavar="URL|none", show_default=False)],
    ttl: Annotated[
        float, typer.Option("--ttl", help="Seconds that a lease lasts without being renewed.")
    ] = 30.0,
) -> None:
    """Set where leases are kept: file, redis://..., env:NAME, or none."""
    state: State = ctx.obj
    with state.manager("repo lease use") as manager:
        manager.leases.use(None if url == "none" else url, ttl=ttl)
    emit(f"leases\t{clean(url)}\n")


def status(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show the backend and who has which profile."""
    state: State = ctx.obj
    with state.manager("repo lease status") as manager:
        found = manager.leases.status()
    if as_json:
        from tweakio.cli.render import json_text

        leases = [item._asdict() for item in found.leases]
        emit(json_text({**found._asdict(), "leases": leases}))
        return
    if not found.backend:
        notice("no lease backend is set")
    for item in found.leases:
        emit(f"{item.profile_id}\t{clean(item.holder)}\t{item.token}\t{item.expires_in:.1f}\n")


def release(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    force: Annotated[
        bool, typer.Option("--force", help="Also if its holder may be alive.")
    ] = False,
) -> None:
    """Take away the lease that a dead program left."""
    state: State = ctx.obj
    with state.manager("repo lease release") as manager:
        taken = manager.leases.release(profile_id, force=force)
    if taken is None:
        notice(f"nobody has a lease of {clean(profile_id)}")
    else:
        emit(f"released {clean(profile_id)}\n")
