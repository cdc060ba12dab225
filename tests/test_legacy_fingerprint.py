"""``fingerprint.pkl`` is read as data: real ones entirely, hostile ones not at all."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
from dataclasses import asdict, make_dataclass
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tweakio.errors import MigrationError
from tweakio.legacy_fingerprint import read_fingerprint_pickle

MODULE = "browserforge.fingerprints.generator"
SCREEN = (
    "availHeight availWidth availTop availLeft colorDepth height pixelDepth width"
    " devicePixelRatio pageXOffset pageYOffset innerHeight outerHeight outerWidth"
    " innerWidth screenX clientWidth clientHeight hasHDR"
)
NAVIGATOR = (
    "userAgent userAgentData doNotTrack appCodeName appName appVersion oscpu webdriver"
    " language languages platform deviceMemory hardwareConcurrency product productSub"
    " vendor vendorSub maxTouchPoints extraProperties"
)
FINGERPRINT = (
    "screen navigator headers videoCodecs audioCodecs pluginsData battery videoCard"
    " multimediaDevices fonts"
)
SINCE_1_1 = " mockWebRTC slim"
PROTOCOLS = range(6)


def browserforge(version: str = "1.2.4") -> SimpleNamespace:
    """The dataclasses of a browserforge release, under their real names."""
    old = version == "1.0.0"

    def record(name: str, fields: str) -> type:
        made = make_dataclass(name, fields.split(), frozen=old)
        made.__module__ = MODULE
        return made

    return SimpleNamespace(
        Fingerprint=record("Fingerprint", FINGERPRINT if old else FINGERPRINT + SINCE_1_1),
        NavigatorFingerprint=record("NavigatorFingerprint", NAVIGATOR),
        ScreenFingerprint=record("ScreenFingerprint", SCREEN),
        VideoCard=record("VideoCard", "renderer vendor"),
    )


def install(monkeypatch: pytest.MonkeyPatch, classes: SimpleNamespace) -> None:
    for name in ("browserforge", "browserforge.fingerprints", MODULE):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules[MODULE]).update(vars(classes))


def fingerprint(classes: SimpleNamespace, **changes: object) -> object:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0"
    screen = dict.fromkeys(SCREEN.split(), 0)
    screen |= {"width": 1920, "height": 1080, "availTop": -27, "screenX": 70_000}
    screen |= {"devicePixelRatio": 1.25, "hasHDR": False, "clientWidth": 1 << 40}
    navigator: dict[str, object] = dict.fromkeys(NAVIGATOR.split())
    navigator |= {"userAgent": agent, "languages": ["de-DE", "de"], "vendor": ""}
    navigator |= {"userAgentData": {"mobile": False, "brands": [{"brand": "\u00e4\U0001f600\n"}]}}
    navigator |= {"extraProperties": {"isBluetoothSupported": True, "installedApps": []}}
    fields: dict[str, object] = {
        "screen": classes.ScreenFingerprint(**screen),
        "navigator": classes.NavigatorFingerprint(**navigator),
        "headers": {"User-Agent": agent, "Accept-Language": "de-DE;q=1.0"},
        "videoCodecs": {"ogg": "", "h264": "probably"},
        "audioCodecs": {},
        "pluginsData": {"plugins": [{"name": "x" * 300}], "mimeTypes": []},
        "battery": {"charging": True, "level": 0.43, "chargingTime": None},
        "videoCard": classes.VideoCard(renderer="Mesa", vendor="Intel"),
        "multimediaDevices": [{"deviceId": "", "kind": "audioinput"}],
        "fonts": ["Arial", "Calibri \\ x"],
        "mockWebRTC": False,
        "slim": None,
    }
    fields |= changes
    known = classes.Fingerprint.__dataclass_fields__
    return classes.Fingerprint(**{name: fields[name] for name in known})


@pytest.mark.parametrize("python", [False, True], ids=["C", "Python"])
@pytest.mark.parametrize("version", ["1.0.0", "1.2.4"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_release_and_protocol_is_read(monkeypatch, protocol, version, python):
    classes = browserforge(version)
    install(monkeypatch, classes)
    made = fingerprint(classes)
    data = (pickle._dumps if python else pickle.dumps)(made, protocol)

    read = read_fingerprint_pickle(data)

    assert read == asdict(made)
    assert json.loads(json.dumps(read, allow_nan=False)) == read
    assert type(read["screen"]["hasHDR"]) is bool


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_names_of_python_3_are_read(monkeypatch, protocol):
    classes = browserforge()
    install(monkeypatch, classes)
    made = fingerprint(classes)
    assert read_fingerprint_pickle(pickle.dumps(made, protocol, fix_imports=False)) == asdict(made)


def test_browserforge_is_not_imported(monkeypatch):
    classes = browserforge()
    with monkeypatch.context() as patch:
        install(patch, classes)
        data = pickle.dumps(fingerprint(classes))
    before = set(sys.modules)
    read_fingerprint_pickle(data)
    assert not {name for name in set(sys.modules) - before if "browserforge" in name}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_value_used_twice_is_copied(monkeypatch, protocol):
    classes = browserforge()
    install(monkeypatch, classes)
    shared = ["one", ("two", 3)]
    made = fingerprint(classes, fonts=shared, multimediaDevices=shared)
    read = read_fingerprint_pickle(pickle.dumps(made, protocol))
    assert read["fonts"] == read["multimediaDevices"] == ["one", ["two", 3]]
    assert read["fonts"] is not read["multimediaDevices"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "not finite"),
        (float("-inf"), "not finite"),
        (1 << 64, "too large"),
        (b"bytes", "opcode|names|text"),
        (bytearray(b"bytes"), "opcode|names|calls"),
        ({1, 2}, "opcode|names"),
        (frozenset({1}), "opcode|names"),
        ({1: "number as key"}, "key is not text"),
        ({None: "no key"}, "key is not text"),
        (1j, "names"),
        ("\ud800", "not Unicode"),
        ({"\udfff": 1}, "not Unicode"),
        (os.system, "names"),
        (len, "names"),
        (SimpleNamespace(a=1), "names"),
        (pickle.PickleBuffer, "names"),
    ],
    ids=repr,
)
def test_other_values_are_refused(monkeypatch, protocol, value, reason):
    classes = browserforge()
    install(monkeypatch, classes)
    data = pickle.dumps(fingerprint(classes, fonts=[value]), protocol)
    with pytest.raises(MigrationError, match=reason):
        read_fingerprint_pickle(data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_a_fingerprint_is_read(monkeypatch, protocol):
    classes = browserforge()
    install(monkeypatch, classes)
    card = classes.VideoCard("a", "b")
    for other in (card, [fingerprint(classes)], {"screen": 1}, classes.Fingerprint, None, 1, "x"):
        with pytest.raises(MigrationError, match="does not hold a browserforge Fingerprint"):
            read_fingerprint_pickle(pickle.dumps(other, protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_contains_itself_is_refused(monkeypatch, protocol):
    classes = browserforge()
    install(monkeypatch, classes)
    around: list[object] = []
    around.append(around)
    with pytest.raises(MigrationError, match="or in itself"):
        read_fingerprint_pickle(pickle.dumps(fingerprint(classes, fonts=around), protocol))
    if protocol >= 2:
        made = classes.Fingerprint.__new__(classes.Fingerprint)
        vars(made).update(slim=made)
        with pytest.raises(MigrationError, match="or in itself"):
            read_fingerprint_pickle(pickle.dumps(made, protocol))


@pytest.mark.no_cover  # thousands of reads, whose lines the others run
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_or_longer_files_are_refused(monkeypatch, protocol):
    classes = browserforge()
    install(monkeypatch, classes)
    data = pickle.dumps(fingerprint(classes), protocol)
    for end in range(len(data)):
        with pytest.raises(MigrationError):
            read_fingerprint_pickle(data[:end])
    for tail in (b"\n", b"\x00", data):
        with pytest.raises(MigrationError, match="after its end"):
            read_fingerprint_pickle(data + tail)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", ["mkdir", "system"])
def test_a_reduce_is_never_called(monkeypatch, tmp_path, protocol, function):
    target = tmp_path / "made"

    class Attack:
        def __reduce__(self):
            if function == "mkdir":
                return os.mkdir, (str(target),)
            return os.system, (f"touch {target}",)

    classes = browserforge()
    install(monkeypatch, classes)
    for made in (Attack(), fingerprint(classes, fonts=[Attack()])):
        with pytest.raises(MigrationError, match="it names '"):
            read_fingerprint_pickle(pickle.dumps(made, protocol))
    assert not target.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_method_of_a_listed_class_is_called(monkeypatch, protocol):
    class Attack:
        def __reduce__(self):
            return classes.VideoCard, ("a", "b")

    classes = browserforge()
    install(monkeypatch, classes)
    calls: list[object] = []
    good = pickle.dumps(fingerprint(classes), protocol)
    bad = pickle.dumps(fingerprint(classes, fonts=[Attack()]), protocol)
    for name in ("__new__", "__init__", "__setstate__", "__setattr__", "__post_init__"):
        setattr(classes.VideoCard, name, lambda *args, **_: calls.append(args))

    assert read_fingerprint_pickle(good)["videoCard"] == {"renderer": "Mesa", "vendor": "Intel"}
    with pytest.raises(MigrationError, match="it calls something"):
        read_fingerprint_pickle(bad)
    assert not calls


# Opcodes by hand. The head leaves an empty Fingerprint on the stack.
CLASS = f"c{MODULE}\nFingerprint\n".encode()
HEAD = b"\x80\x02" + CLASS + b")\x81"
GOOD = HEAD + b"}X\x01\x00\x00\x00aK\x01sb."


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def holding(value: bytes) -> bytes:
    """A Fingerprint whose one field is what these opcodes make."""
    return HEAD + b"}" + text("a") + value + b"sb."


def test_the_hand_made_head_is_good():
    assert read_fingerprint_pickle(GOOD) == {"a": 1}
    assert read_fingerprint_pickle(holding(b"(K\x01K\x02l")) == {"a": [1, 2]}


ATTACKS = {
    "nothing": b"",
    "only STOP": b".",
    "protocol 6": b"\x80\x06" + GOOD[2:],
    "os.system": b"cos\nsystem\n(S'true'\ntR.",
    "posix.system by stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "builtins.eval": b"cbuiltins\neval\n(Vprint(1)\ntR.",
    "builtins.getattr": b"cbuiltins\ngetattr\n.",
    "nested name": b"\x80\x04" + text(MODULE) + text("Fingerprint.__init__.__globals__") + b"\x93.",
    "dotted module": b"\x80\x04" + text("browserforge.fingerprints") + text("json.os") + b"\x93.",
    "generator class": f"c{MODULE}\nFingerprintGenerator\n)\x81}}b.".encode(),
    "constraint class": f"c{MODULE}\nScreen\n)\x81}}b.".encode(),
    "name with a space": f"c{MODULE} Fingerprint\n\n)\x81}}b.".encode(),
    "name that is a number": b"\x80\x04K\x01K\x02\x93.",
    "other module": b"cevil\nFingerprint\n)\x81}b.",
    "NEWOBJ of copyreg": b"ccopy_reg\n_reconstructor\n)\x81}b.",
    "NEWOBJ of object": b"c__builtin__\nobject\n)\x81}b.",
    "NEWOBJ of data": b"K\x01)\x81}b.",
    "NEWOBJ with arguments": CLASS + b"K\x01\x85\x81}b.",
    "NEWOBJ with a list": CLASS + b"]\x81}b.",
    "NEWOBJ_EX": b"\x80\x04" + CLASS + b")}\x92}b.",
    "REDUCE of a listed class": CLASS + b")R}b.",
    "REDUCE of object": b"c__builtin__\nobject\n)R.",
    "REDUCE of data": b"K\x01)R.",
    "REDUCE with a list": b"ccopy_reg\n_reconstructor\n]R.",
    "REDUCE with few arguments": b"ccopy_reg\n_reconstructor\n" + CLASS + b"\x85R.",
    "REDUCE with another base": b"ccopy_reg\n_reconstructor\n(" + CLASS + CLASS + b"NtR}b.",
    "REDUCE with a state": b"ccopy_reg\n_reconstructor\n(" + CLASS + b"c__builtin__\nobject\n}tR.",
    "REDUCE of the base": b"ccopy_reg\n_reconstructor\n("
    + b"c__builtin__\nobject\n" * 2
    + b"NtR}b.",
    "INST": f"(i{MODULE}\nFingerprint\n}}b.".encode(),
    "OBJ": b"(" + CLASS + b"o}b.",
    "BUILD on a class": CLASS + b"}" + text("__reduce__") + b"K\x01sb.",
    "BUILD on a list": holding(b"]}b"),
    "BUILD with a list": HEAD + b"]b.",
    "BUILD with slots": HEAD + b"}}" + text("__class__") + CLASS + b"s\x86b.",
    "BUILD with None": HEAD + b"Nb.",
    "BUILD twice": HEAD + b"}b}b.",
    "BUILD of nothing": b"}b.",
    "no BUILD": HEAD + b".",
    "__class__ as a field": HEAD + b"}" + text("__class__") + CLASS + b"sb.",
    "class as a value": holding(CLASS),
    "function as a value": holding(b"ccopy_reg\n_reconstructor\n"),
    "class as a key": HEAD + b"}" + CLASS + b"K\x01sb.",
    "list as a key": HEAD + b"}]K\x01sb.",
    "nested object without fields": holding(CLASS + b")\x81"),
    "PERSID": holding(b"P1\n"),
    "BINPERSID": holding(b"K\x01Q"),
    "EXT1": holding(b"\x82\x01"),
    "EXT2": holding(b"\x83\x01\x00"),
    "EXT4": holding(b"\x84\x01\x00\x00\x00"),
    "NEXT_BUFFER": holding(b"\x97"),
    "READONLY_BUFFER": holding(b"K\x01\x98"),
    "BYTEARRAY8": holding(b"\x96" + struct.pack("<Q", 1) + b"a"),
    "BINBYTES": holding(b"B\x01\x00\x00\x00a"),
    "SHORT_BINBYTES": holding(b"C\x01a"),
    "huge BINBYTES8": holding(b"\x8e" + struct.pack("<Q", 1 << 62)),
    "huge BINUNICODE8": holding(b"\x8d" + struct.pack("<Q", 1 << 63)),
    "huge LONG4": holding(b"\x8b\xff\xff\xff\x7f"),
    "negative LONG4": holding(b"\x8b\xff\xff\xff\xff"),
    "STRING": holding(b"S'a\\q'\n"),
    "BINSTRING": holding(b"T\x01\x00\x00\x00a"),
    "EMPTY_SET": holding(b"\x8f"),
    "DUP": holding(b"]2e"),
    "POP": holding(b"]0"),
    "huge decimal": holding(b"L" + b"9" * 5000 + b"L\n"),
    "FLOAT nan": holding(b"Fnan\n"),
    "FLOAT 1e999": holding(b"F1e999\n"),
    "GET of nothing": holding(b"g7\n"),
    "GET of a negative": holding(b"g-1\n"),
    "LONG_BINGET of nothing": holding(b"j\xff\xff\xff\xff"),
    "PUT of nothing": b"q\x00.",
    "MEMOIZE of nothing": b"\x80\x04\x94.",
    "TUPLE without mark": b"t.",
    "pop below a mark": HEAD + b"(b.",
    "APPEND to a dict": holding(b"}K\x01a"),
    "APPENDS to a tuple": holding(b")(K\x01e"),
    "SETITEM of a list": holding(b"]" + text("a") + b"K\x01s"),
    "SETITEMS of an object": HEAD + b"(" + text("a") + b"K\x01u.",
    "odd SETITEMS": HEAD + b"}(" + text("a") + b"ub.",
    "odd DICT": holding(b"(" + text("a") + b"d"),
    "values left": b"K\x01" + GOOD[2:],
    "mark left": b"(" + GOOD[2:],
    "unknown opcode": holding(b"\xff"),
    "not UTF-8": holding(b"X\x01\x00\x00\x00\xff"),
    "marks without end": b"(" * 200_000,
    "deep lists": holding(b"]" * 49_000 + b"a" * 48_999),
    "deep tuples": holding(b")" + b"\x85" * 90_000),
    "deep dicts": holding((b"}" + text("a")) * 30_000 + b"N" + b"s" * 30_000),
    "deep records": holding(
        b"".join([(CLASS + b")\x81}" + text("a")) * 12_000, b"N", b"sb" * 12_000])
    ),
    "17 levels": holding(b"]" * 17 + b"a" * 16),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_in_one_line(name):
    modules = set(sys.modules)
    with pytest.raises(MigrationError) as caught:
        read_fingerprint_pickle(ATTACKS[name])
    assert caught.value.message.startswith("cannot read fingerprint.pkl: ")
    assert len(caught.value.message.splitlines()) == 1
    assert len(caught.value.message) < 200
    assert not {"browserforge", "evil"} & (set(sys.modules) - modules)


def test_a_name_from_the_file_is_shown_short_and_on_one_line():
    name = text("evil\n\x1b[2J" + "x" * 5000) + text("\u202e") + b"\x93."
    with pytest.raises(MigrationError, match=r"it names 'evil\\n\\x1b\[2Jx+\.\.\.'$"):
        read_fingerprint_pickle(b"\x80\x04" + name)


def test_size_and_work_are_bounded():
    with pytest.raises(MigrationError, match="larger than 1048576 bytes"):
        read_fingerprint_pickle(GOOD.ljust((1 << 20) + 1, b"."))
    with pytest.raises(MigrationError, match="more than 100000 opcodes"):
        read_fingerprint_pickle(b"(" * (1 << 20))


def test_16_levels_are_read():
    read = read_fingerprint_pickle(holding(b"]" * 15 + b"a" * 14))
    assert str(read["a"]) == "[" * 15 + "]" * 15


def test_a_module_that_a_pickle_names_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    monkeypatch.setitem(sys.modules, "webbrowser", None)
    for data in (b"cantigravity\nfly\n.", b"\x80\x04\x8c\x0bantigravity\x8c\x03fly\x93."):
        with pytest.raises(MigrationError, match="names 'antigravity fly'"):
            read_fingerprint_pickle(data)
    assert "antigravity" not in sys.modules


def laughs(leaf: bytes, lines: int) -> bytes:
    """Each list holds the one before ten times."""
    made = leaf + b"q\x00"
    for line in range(lines):
        made += b"](" + b"h" + bytes([line]) + (b"h" + bytes([line])) * 9 + b"e"
        made += b"q" + bytes([line + 1])
    return b"(" + made + b"t"


@pytest.mark.parametrize("lines", [5, 9, 12])
def test_a_billion_laughs_is_refused(lines):
    with pytest.raises(MigrationError, match="expands to more than 100000 values"):
        read_fingerprint_pickle(holding(laughs(b"]", lines)))


def test_a_long_text_used_often_is_refused():
    data = holding(b"](" + text("a" * 500_000) + b"q\x01" + b"h\x01" * 60 + b"e")
    with pytest.raises(MigrationError, match="too much text"):
        read_fingerprint_pickle(data)
    keys = b"](" + (b"}" + b"h\x01Ns") * 3 + b"e"
    data = HEAD + b"}" + text("k" * 500_000) + b"q\x01" + keys + b"sb."
    with pytest.raises(MigrationError, match="too much text"):
        read_fingerprint_pickle(data)


def test_a_memo_index_costs_nothing():
    data = HEAD + b"}" + text("a") + b"]r\xff\xff\xff\xffsb."
    assert read_fingerprint_pickle(data) == {"a": []}


def harmless(data: bytes) -> None:
    try:
        read = read_fingerprint_pickle(data)
    except MigrationError:
        return
    assert type(read) is dict
    json.dumps(read, allow_nan=False, ensure_ascii=False).encode()


@given(st.binary(max_size=400))
@example(b"\x80\x04\x95")
def test_any_bytes_are_harmless(data):
    harmless(data)


PIECES = [
    bytes([opcode]) for opcode in b"(.)]}ab0defglqhstuNRQ\x81\x85\x86\x87\x88\x89\x92\x93\x94"
]
PIECES += [b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x01", b"I01\n", b"F1.5\n", b"g0\n", b"p1\n"]
PIECES += [CLASS, HEAD, b"ccopy_reg\n_reconstructor\n", b"c__builtin__\nobject\n", b"cos\nsystem\n"]
PIECES += [
    text("a"),
    text("__class__"),
    b"\x8c\x01b",
    text(MODULE),
    text("VideoCard"),
    b"(e",
    b"(u",
]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join))
def test_any_opcodes_are_harmless(data):
    harmless(data)
    harmless(HEAD + b"}" + text("a") + data + b"sb.")


@given(st.data())
def test_any_damage_to_a_good_one_is_harmless(data):
    good = holding(b"(K\x01G" + struct.pack(">d", 1.5) + text("b") + b"\x88N}(" + b"ue")
    raw = bytearray(data.draw(st.sampled_from([GOOD, good])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    harmless(bytes(raw))
