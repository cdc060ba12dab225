"""The group ``tweakio profile``."""

import typer

from tweakio.cli.tree import SETTINGS, group

__all__ = ["app"]

_HERE = "tweakio.cli.commands"

app = typer.Typer(
    cls=group(
        {
            "create": f"{_HERE}.create:create",
            "clone": f"{_HERE}.clone:clone",
            "activate": f"{_HERE}.activate:activate",
            "deactivate": f"{_HERE}.activate:deactivate",
            "delete": f"{_HERE}.delete:delete",
            "list": f"{_HERE}.look:list_",
            "status": f"{_HERE}.look:status",
            "recover": f"{_HERE}.recover:recover",
            "set": f"{_HERE}.change:set_",
            "trust": f"{_HERE}.trust:trust",
            "history": f"{_HERE}.history:history",
            "show": f"{_HERE}.history:show",
            "diff": f"{_HERE}.history:diff",
            "undo": f"{_HERE}.undo:undo",
            "redo": f"{_HERE}.undo:redo",
            "restore": f"{_HERE}.undo:restore",
            "trash": f"{_HERE}.trash:app",
            "snapshot": f"{_HERE}.snapshot:app",
            "login": f"{_HERE}.accounts:login",
            "check": f"{_HERE}.accounts:check",
            "open": f"{_HERE}.accounts:open_",
            "clean": f"{_HERE}.accounts:clean",
            "du": f"{_HERE}.accounts:du",
            "export": f"{_HERE}.archive:export",
            "import": f"{_HERE}.archive:import_",
        }
    ),
    **SETTINGS,
)


@app.callback()
def profile() -> None:
    """Create, log in, select, inspect, delete and bring back profiles."""
