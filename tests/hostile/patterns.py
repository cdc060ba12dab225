"""Every pattern of the package, with how it is used."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import tweakio

_HOW = {"match": "match", "fullmatch": "fullmatch", "search": "search", "sub": "all",
        "subn": "all", "split": "all", "findall": "all", "finditer": "all"}  # fmt: skip


class Used(NamedTuple):
    """A pattern, and how texts are compared with it."""

    where: str
    pattern: str | bytes
    flags: int
    how: str


def all_patterns() -> list[Used]:
    """All of them, by what their modules say; an AssertionError for one that cannot be told."""
    root = Path(tweakio.__file__).parent
    found: list[Used] = []
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        if "import re\n" not in text:
            continue
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found += _of_module(ast.parse(text), importlib.import_module(name), name)
    return sorted(set(found), key=repr)


def _of_module(tree: ast.Module, module: Any, name: str) -> list[Used]:
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in _HOW
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "re.compile"
        ):
            where = f"{name}:{node.lineno}"
            pattern = _value(node.value.args[0], module, where)
            found.append(Used(where, pattern, _flags(node.value, module), _HOW[node.attr]))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        where, how = f"{name}:{node.lineno}", node.func.attr
        of = node.func.value
        if isinstance(of, ast.Name) and of.id == "re":
            if how in _HOW:
                pattern = _value(node.args[0], module, where)
                if isinstance(pattern, re.Pattern):
                    found.append(Used(where, pattern.pattern, pattern.flags, _HOW[how]))
                else:
                    found.append(Used(where, pattern, _flags(node, module), _HOW[how]))
        elif how in _HOW and isinstance(of, ast.Name):
            pattern = getattr(module, of.id, None)
            if isinstance(pattern, re.Pattern):
                found.append(Used(where, pattern.pattern, pattern.flags, _HOW[how]))
    return found


def _value(node: ast.expr, module: Any, where: str) -> Any:
    try:
        return eval(compile(ast.Expression(node), where, "eval"), vars(module))
    except NameError:
        raise AssertionError(f"{where}: a pattern that is made while it runs") from None


def _flags(node: ast.Call, module: Any) -> int:
    found = 0
    for argument in [*node.args[2:], *(k.value for k in node.keywords if k.arg == "flags")]:
        if isinstance(argument, ast.Attribute):
            found |= int(_value(argument, module, ""))
    return found
