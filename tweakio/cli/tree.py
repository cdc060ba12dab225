"""Typer's classes, so that a command's module is imported when that command runs."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import typer
import typer.core
import typer.main

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SETTINGS", "Group", "group"]

SETTINGS: dict[str, Any] = {
    "add_completion": False,
    # Plain help and no decorated tracebacks: neither is worth importing rich.
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_PLAIN_TYPES = (bool, str, int, list[str])
_MISSING: Any = object()


class _FastPath:
    """Stands in for ``process_value`` of one parameter of Typer 0.29 and later.

    There every value except True and False goes through a pydantic TypeAdapter, the None of
    an absent --help included, and importing pydantic takes longer than the rest of a
    command. An absent value, text that is wanted as text and a whole number need no
    adapter; everything else, every error included, is left to Typer. Where Typer changes
    so that this no longer fits, it is not used, and only speed is lost.
    """

    def __init__(self, parameter: Any) -> None:
        self.original = parameter.process_value
        self.parameter = parameter
        self.annotation = parameter.type_descriptor.annotation
        self.multiple = parameter.multiple or parameter.nargs == -1

    @classmethod
    def install(cls, parameter: Any) -> None:
        """Put one before a parameter's own conversion, if the parameter is plain."""
        descriptor = getattr(parameter, "type_descriptor", None)
        info = getattr(descriptor, "parameter_info", None)
        if info is None or isinstance(parameter.process_value, cls):
            return
        if info.parser is not None or info.min is not None or info.max is not None:
            return
        if getattr(descriptor, "annotation", None) in _PLAIN_TYPES:
            parameter.process_value = cls(parameter)

    def __call__(self, ctx: Any, value: Any) -> Any:
        """Convert a value, or leave it to Typer."""
        plain = self._plain(value)
        if plain is _MISSING:
            return self.original(ctx, value)
        if self.parameter.callback is not None:
            return self.parameter.callback(ctx, self.parameter, plain)
        return plain

    def _plain(self, value: Any) -> Any:
        if value is None or (self.multiple and value in ((), [])):
            if self.parameter.required:
                return _MISSING
            return () if self.multiple else None
        if self.multiple:
            texts = self.annotation == list[str] and all(type(item) is str for item in value)
            return tuple(value) if texts else _MISSING
        if type(value) is self.annotation:
            return value
        if self.annotation is int and type(value) is str and _WHOLE_NUMBER.fullmatch(value):
            return int(value)
        return _MISSING


class Command(typer.core.TyperCommand):
    """A command that does not import pydantic for plain values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with the fast path before them."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            _FastPath.install(parameter)
        return parameters


class Group(typer.core.TyperGroup):
    """A group whose commands are ``"package.module:object"`` until they are wanted.

    The object is a function, which becomes a command, or a ``typer.Typer``.

    Attributes:
        table: the commands by name, in the order in which help shows them.
        more: further commands that take time to find: called for help, completion and
            names that the table lacks.
    """

    table: dict[str, str]
    more: Callable[[], dict[str, str]] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with the fast path before them."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            _FastPath.install(parameter)
        return parameters

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command's name."""
        return list(self._all())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """The command of this name; None if there is none."""
        if cmd_name not in self.commands:
            target = self.table.get(cmd_name) or self._all().get(cmd_name)
            if target is None:
                return None
            module, _, name = target.partition(":")
            self.commands[cmd_name] = _built(
                getattr(importlib.import_module(module), name), cmd_name
            )
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that a line names; the suggestion is ours."""
        # Typer suggests from self.commands, which are only those loaded so far.
        wanted = args[0] if args else ""
        if wanted and not wanted.startswith("-") and self.get_command(ctx, wanted) is None:
            if ctx.resilient_parsing:
                return None, None, args[1:]
            from difflib import get_close_matches

            close = get_close_matches(wanted, self._all())
            suggestion = f"; did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"no such command '{wanted[:80]}'{suggestion}")
        return super().resolve_command(ctx, args)

    def _all(self) -> dict[str, str]:
        more = type(self).more
        return self.table if more is None else {**self.table, **more()}


def _built(target: Any, name: str) -> Any:
    if not isinstance(target, typer.Typer):
        single = typer.Typer(**SETTINGS)
        single.command(name, cls=Command)(target)
        target = single
    command = typer.main.get_command(target)
    command.name = name
    return command


def group(table: dict[str, str], more: Callable[[], dict[str, str]] | None = None) -> type[Group]:
    """The class of a group with these commands, for ``typer.Typer(cls=...)``."""
    members: dict[str, Any] = {"table": table}
    if more is not None:
        members["more"] = staticmethod(more)
    return type("Group", (Group,), members)
