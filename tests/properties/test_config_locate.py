"""The lines of a TOML document's keys, against documents whose lines are known and against tomllib."""

from __future__ import annotations

import tomllib
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.config.locate import KeyPath, locate

DOCUMENT = '''\
# a comment with [brackets] and a = 1
top = 1 # trailing = "comment"

"quoted key" = 'x'
'literal.key' = 2
dotted . "in ner".'deep' = 3
several = [
    1, # one, [two]
    [2,
     3],
    "a ] b # c",  { inline = 4, more.dots = [5] },
]
text = """
[not.a.table]
not_a_key = 1 \\""" still
four quotes: """"
after = 1
raw = \'\'\'
[nor.this] \\
'''


def test_every_form_of_key_and_value() -> None:
    text = (
        DOCUMENT
        + "x''''\n"
        + dedent("""\
        when = 1979-05-27 07:32:00Z
        empty = []
        none = {}
        [table]
        key = 1
        [ table . "sub" ]
        key = 2
        [[many]]
        a = 1
        [many.sub]
        b = 2
        [[many.nested]]
        c = 3
        [[many.nested]]
        [[many]]
        a = 4
        [deep.down.here]
        [deep.down]
        z = 1""")
    )
    lines = locate(text)
    assert set(lines) == paths(tomllib.loads(text))
    number = {line.strip(): index for index, line in reversed(list(enumerate(text.split("\n"), 1)))}
    for path, line in {
        ("top",): 'top = 1 # trailing = "comment"',
        ("quoted key",): "\"quoted key\" = 'x'",
        ("literal.key",): "'literal.key' = 2",
        ("dotted", "in ner", "deep"): "dotted . \"in ner\".'deep' = 3",
        ("dotted",): "dotted . \"in ner\".'deep' = 3",
        ("several", 1, 1): "3],",
        ("several", 3, "more", "dots", 0): '"a ] b # c",  { inline = 4, more.dots = [5] },',
        ("after",): "after = 1",
        ("when",): "when = 1979-05-27 07:32:00Z",
        ("table", "sub", "key"): "key = 2",
        ("many", 0, "sub", "b"): "b = 2",
        ("many", 0, "nested", 0, "c"): "c = 3",
        ("many", 1, "a"): "a = 4",
        ("deep",): "[deep.down.here]",
        ("deep", "down"): "[deep.down]",
    }.items():
        assert lines[path] == number[line], path


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key and element of a parsed document."""
    found: set[KeyPath] = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= paths(inner, (*path, index))
    return found


# --- generated documents ------------------------------------------------------------------------------------------------
def basic(text: str) -> str:
    """A basic string; everything that is special is escaped."""
    return '"' + "".join(c if c.isalnum() or c in " #[]{}=,.'" else f"\\U{ord(c):08x}" for c in text) + '"'


def multiline(text: str) -> str:
    kept = "".join(c for c in text if c.isprintable() or c == "\n")
    return '"""' + kept.replace("\\", "\\\\").replace('"""', '""\\"') + '\n"""'


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
tricky = st.text(st.sampled_from("\"\\'[]{}#=,\n\t a."), max_size=12)
strings = st.one_of(words, tricky)
literal = st.text(st.sampled_from('"\\[]{}#=, a.'), max_size=8)
keys = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True), strings.map(basic), literal.map("'{}'".format))
dotted_keys = st.lists(keys, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".", " . ", "\t."]).map(lambda dot: dot.join(parts))
)
scalars = st.one_of(
    strings.map(basic),
    strings.map(multiline),
    literal.map("'{}'".format),
    st.text(st.sampled_from('"\\[]{}#=, a\n'), max_size=8).map("'''{}'''".format),
    st.sampled_from(
        ["1", "-0.5e3", "true", "0x1f", "inf", "1979-05-27 07:32:00", "07:32:00", '"""x"""""', "''''quoted'''''", '""']
    ),
)
blanks = st.sampled_from(["", " ", "\t", "\n", ' # ] , } """ \'\n', "\r\n", "\n\n"])


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    parts = [draw(blanks) + draw(inner) + draw(blanks) for _ in range(draw(st.integers(0, 3)))]
    return "[" + ",".join(parts) + draw(blanks if parts else st.just("")) + "]"


@st.composite
def inline_tables(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    return "{" + ", ".join(f"{draw(dotted_keys)} = {draw(inner)}" for _ in range(draw(st.integers(0, 3)))) + " }"


values = st.recursive(scalars, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=6)
statements = st.one_of(
    st.builds("{} ={}{}".format, dotted_keys, st.sampled_from(["", " ", "\t"]), values),
    st.builds("[{}]".format, dotted_keys),
    st.builds("[[{}]]".format, dotted_keys),
    st.sampled_from(["", "# comment [x] = '", "[a.b]", "[[a.b]]", "[[a]]", "[a]", "a.b.c = 1", "b = [{c = 1}, {c = 2}]"]),
)
documents = st.lists(
    st.builds("{}{}{}".format, st.sampled_from(["", "  "]), statements, st.sampled_from(["\n", "\r\n", " # end\n"])), max_size=8
)


def valid_prefix(parts: list[str]) -> str:
    """The document without the statements that contradict those before them (a key twice ...)."""
    text = ""
    for part in parts:
        try:
            tomllib.loads(text + part)
        except tomllib.TOMLDecodeError:
            continue
        text += part
    return text


@given(documents)
def test_the_keys_are_those_that_tomllib_finds(parts: list[str]) -> None:
    text = valid_prefix(parts)
    assert set(locate(text)) == paths(tomllib.loads(text))


@given(documents)
def test_a_key_is_on_the_line_where_it_comes_into_being(parts: list[str]) -> None:
    """Cut before a key's line the document does not have the key yet."""
    text = valid_prefix(parts)
    lines = text.split("\n")
    for path, line in locate(text).items():
        assert 1 <= line <= len(lines)
        try:
            before = tomllib.loads("\n".join(lines[: line - 1]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # the line is inside a value
        # A table is where its header is, though a header of one below it may have implied it before.
        if not lines[line - 1].lstrip().startswith("["):
            assert path not in paths(before)


@given(st.lists(st.tuples(keys, scalars, st.integers(0, 3)), max_size=8))
def test_lines_that_are_known(entries: list[tuple[str, str, int]]) -> None:
    text, expected = "", {}
    for index, (key, value, blank) in enumerate(entries):
        text += "\n" * blank
        name = tomllib.loads(f"{key} = 1").popitem()[0]
        expected["t", index, name] = text.count("\n") + 2
        text += f"[[t]]\n{key} = {value}\n"
    found = locate(text)
    assert {path: found[path] for path in expected} == expected


def test_nothing_in_an_empty_document() -> None:
    assert locate("") == {}
    assert locate("# only a comment") == {}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_both_line_endings(ending: str) -> None:
    assert locate(f"a = 1{ending}{ending}[b]{ending}c = 1") == {("a",): 1, ("b",): 3, ("b", "c"): 4}
