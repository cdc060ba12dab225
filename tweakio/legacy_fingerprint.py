"""Reading the ``fingerprint.pkl`` of tweakio-sdk 0.1.5 without unpickling it.

That file is a pickle of browserforge's ``Fingerprint`` dataclass. A pickle is a program,
and this one comes from a directory that anybody may have written, so it is not given to
``pickle.Unpickler``: even one whose ``find_class`` is restricted still calls what it
finds, sets attributes, and allocates a memo as large as an opcode says. Here the standard
disassembler ``pickletools.genops`` splits the bytes into opcodes, and the few of them that
CPython writes for these dataclasses are carried out on plain data. Nothing is imported,
looked up or called: the name of a class is a piece of text that is compared with a list,
and an opcode that is not in the table ends the reading.

Browserforge 1.0.0 to 1.2.4 have the same four classes in the same module; 1.0.0 lacks two
fields (``mockWebRTC`` and ``slim``). All pickle protocols, 0 to 5, are read.
"""

from __future__ import annotations

import math
import pickletools
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tweakio.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["JSON", "read_fingerprint_pickle"]

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

# A real one has about 6,500 bytes, 1,100 opcodes and 260 values, and is 3 levels deep.
_MOST_BYTES = 1 << 20
_MOST_OPCODES = 100_000
_MOST_VALUES = 100_000
_MOST_TEXT = 1 << 20
_MOST_LEVELS = 16
_MOST_BITS = 63

_MODULE = "browserforge.fingerprints.generator"
_ROOT = f"{_MODULE} Fingerprint"
_RECORDS = frozenset(
    {
        _ROOT,
        f"{_MODULE} NavigatorFingerprint",
        f"{_MODULE} ScreenFingerprint",
        f"{_MODULE} VideoCard",
    }
)
# Protocols 0 and 1 make an object with copyreg._reconstructor(cls, object, None), under
# the names of Python 2 unless fix_imports was off.
_RECONSTRUCTORS = frozenset({"copy_reg _reconstructor", "copyreg _reconstructor"})
_OBJECTS = frozenset({"__builtin__ object", "builtins object"})
_GLOBALS = _RECORDS | _RECONSTRUCTORS | _OBJECTS


def read_fingerprint_pickle(data: bytes) -> dict[str, JSON]:
    """Read a pickled browserforge ``Fingerprint`` as plain JSON data.

    No code of the pickle, nor any that it names, is ever run.

    Args:
        data: the whole content of ``fingerprint.pkl``.

    Returns:
        The fields of the dataclass by name, nested dataclasses as dicts, as
        ``dataclasses.asdict`` gives them; a tuple becomes a list.

    Raises:
        MigrationError: if it is anything else than such a pickle.
    """
    if len(data) > _MOST_BYTES:
        _refuse(f"it is larger than {_MOST_BYTES} bytes")
    root = _Machine().run(data)
    if not isinstance(root, _Record) or root.name != _ROOT:
        _refuse("it does not hold a browserforge Fingerprint")
    return _Plain().record(root, 1)


def _refuse(reason: str) -> NoReturn:
    raise MigrationError(
        f"cannot read fingerprint.pkl: {reason}",
        hint="move fingerprint.pkl out of the way to go on without it",
        reason=reason,
    )


def _shown(text: str) -> str:
    """Text from the file, short and on one line."""
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")


class _Global:
    """The name of a class or function; never the thing itself."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Record:
    """An instance of one of the dataclasses: its name and its fields."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fields: dict[str, object] | None = None


class _Machine:
    """The pickle machine's stack, marks and memo, for the opcodes in ``_ACTIONS``."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        # By number; a dict, so that a high number costs nothing.
        self.memo: dict[object, object] = {}

    def run(self, data: bytes) -> object:
        opcodes = pickletools.genops(data)
        for _ in range(_MOST_OPCODES):
            try:
                opcode, argument, position = next(opcodes)
            except Exception:  # genops raises what the opcode's decoder does, and only that
                _refuse("it is not a complete pickle")
            if opcode.name == "STOP":
                if position is None or position + 1 != len(data):
                    _refuse("there is something after its end")
                result = self.pop()
                if self.stack or self.marks:
                    _refuse("it leaves values unused")
                return result
            if opcode.name in _PUSHED:
                self.stack.append(argument)
            elif (action := _ACTIONS.get(opcode.name)) is not None:
                action(self, argument)
            else:
                _refuse(f"the opcode {opcode.name} has no place in a fingerprint")
        _refuse(f"it has more than {_MOST_OPCODES} opcodes")

    def pop(self) -> object:
        if not self.stack:
            _refuse("it takes a value that is not there")
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        if not self.marks:
            _refuse("it takes a mark that is not there")
        values, self.stack = self.stack, self.marks.pop()
        return values

    def top(self) -> object:
        if not self.stack:
            _refuse("it takes a value that is not there")
        return self.stack[-1]

    def ignore(self, _: object) -> None:
        """FRAME is only a hint for reading ahead."""

    def protocol(self, number: object) -> None:
        if not isinstance(number, int) or number > 5:
            _refuse("its pickle protocol is newer than 5")

    def constant(self, value: object) -> None:
        self.stack.append(value)

    def mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: object) -> None:
        self.memo[index] = self.top()

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.top()

    def get(self, index: object) -> None:
        if index not in self.memo:
            _refuse("it uses a memo entry that is not there")
        self.stack.append(self.memo[index])

    def new_list(self, _: object) -> None:
        self.stack.append([])

    def new_dict(self, _: object) -> None:
        self.stack.append({})

    def new_tuple(self, _: object) -> None:
        self.stack.append(())

    def marked_list(self, _: object) -> None:
        values = self.pop_to_mark()
        self.stack.append(values)

    def marked_tuple(self, _: object) -> None:
        values = self.pop_to_mark()
        self.stack.append(tuple(values))

    def short_tuple(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(values)))

    def marked_dict(self, _: object) -> None:
        values = self.pop_to_mark()
        self.stack.append({})
        self.set_pairs(values)

    def append(self, _: object) -> None:
        self.extend([self.pop()])

    def appends(self, _: object) -> None:
        self.extend(self.pop_to_mark())

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            _refuse("it appends to something that is not a list")
        target.extend(values)

    def set_item(self, _: object) -> None:
        value = self.pop()
        self.set_pairs([self.pop(), value])

    def set_items(self, _: object) -> None:
        self.set_pairs(self.pop_to_mark())

    def set_pairs(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict):
            _refuse("it sets an item of something that is not a dict")
        if len(values) % 2:
            _refuse("it has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):
                _refuse("a key is not text")
            target[key] = value

    def named_global(self, name: object) -> None:
        # genops joins module and name with one space; none of the listed names has
        # another, so no other pair can look like one of them.
        if not isinstance(name, str) or name not in _GLOBALS:
            _refuse(f"it names {_shown(str(name))}")
        self.stack.append(_Global(name))

    def stack_global(self, _: object) -> None:
        name = self.pop()
        module = self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            _refuse("it names a class by something that is not text")
        self.named_global(f"{module} {name}")

    def new_object(self, _: object) -> None:
        arguments = self.pop()
        self.new_record(self.pop(), plain=arguments == ())

    def reduce(self, _: object) -> None:
        arguments = self.pop()
        function = self.pop()
        if not isinstance(function, _Global) or function.name not in _RECONSTRUCTORS:
            _refuse("it calls something")
        if not isinstance(arguments, tuple) or len(arguments) != 3:
            _refuse("it makes an object in an unknown way")
        record, base, state = arguments
        is_object = isinstance(base, _Global) and base.name in _OBJECTS
        self.new_record(record, plain=is_object and state is None)

    def new_record(self, record: object, *, plain: bool) -> None:
        if not plain or not isinstance(record, _Global) or record.name not in _RECORDS:
            _refuse("it makes an object in an unknown way")
        self.stack.append(_Record(record.name))

    def build(self, _: object) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, _Record) or target.fields is not None:
            _refuse("it gives a state to something that takes none")
        if not isinstance(state, dict):
            _refuse("the state of an object is not a dict")
        target.fields = state


# Opcodes whose argument is the value; genops has made it a bool, int, float or str.
_PUSHED = frozenset(
    {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_ACTIONS: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.ignore,
    "NONE": lambda machine, _: machine.constant(None),
    "NEWTRUE": lambda machine, _: machine.constant(True),  # noqa: FBT003 - the value itself
    "NEWFALSE": lambda machine, _: machine.constant(False),  # noqa: FBT003 - the value itself
    "MARK": _Machine.mark,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "EMPTY_LIST": _Machine.new_list,
    "EMPTY_DICT": _Machine.new_dict,
    "EMPTY_TUPLE": _Machine.new_tuple,
    "LIST": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "TUPLE": _Machine.marked_tuple,
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.named_global,
    "STACK_GLOBAL": _Machine.stack_global,
    "NEWOBJ": _Machine.new_object,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


class _Plain:
    """Copies what the machine built, within bounds.

    The memo lets a pickle use one value many times, so that a few hundred bytes can stand
    for more than fits into memory, or for a list that contains itself. The copy counts
    what it writes and how deep it is, and so ends in either case.
    """

    def __init__(self) -> None:
        self.values = 0
        self.text = 0

    def record(self, record: _Record, level: int) -> dict[str, JSON]:
        if record.fields is None:
            _refuse("an object has no fields")
        return self.mapping(record.fields, level)

    def mapping(self, mapping: dict[str, object], level: int) -> dict[str, JSON]:
        return {self.string(key): self.value(value, level) for key, value in mapping.items()}

    def string(self, text: str) -> str:
        self.text += len(text)
        if self.text > _MOST_TEXT:
            _refuse("it expands to too much text")
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse("it has text that is not Unicode")
        return text

    def value(self, value: object, level: int) -> JSON:
        self.values += 1
        if self.values > _MOST_VALUES:
            _refuse(f"it expands to more than {_MOST_VALUES} values")
        if isinstance(value, str):
            return self.string(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self.number(value)
        return self.container(value, level + 1)

    def number(self, number: float) -> float:
        if isinstance(number, int):
            if number.bit_length() > _MOST_BITS:
                _refuse("a number is too large")
        elif not math.isfinite(number):
            _refuse("a number is not finite")
        return number

    def container(self, value: object, level: int) -> JSON:
        if level > _MOST_LEVELS:
            _refuse(f"it is nested more than {_MOST_LEVELS} levels deep, or in itself")
        if isinstance(value, _Record):
            return self.record(value, level)
        if isinstance(value, dict):
            return self.mapping(value, level)
        if isinstance(value, (list, tuple)):
            return [self.value(item, level) for item in value]
        _refuse("a class stands where a value belongs")
