"""What can be typed next: what the shells' scripts (``shells``) ask at each TAB.

What must live here: which words fit a place of the command line.
What this file must not know: which commands there are (``commands`` says it, so a new option needs nothing here).

The scripts call ``rocksyd __complete``, which prints one word per line, after a tab what it means, and perhaps ``:files`` (the
shell is to offer files as well) and ``:nospace`` (more belongs to the same word). It is silent about every error: a shell that
completes is no place for messages. Names and keys are the daemon's, asked for where they are wanted, for ANSWER_WITHIN seconds.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rocksyd.cli.commands import COMMANDS, build_parser
from rocksyd.cli.output import clean, write
from rocksyd.client import Client
from rocksyd.errors import RocksydError
from rocksyd.exit_status import SIGNALS

ANSWER_WITHIN = 2.0
KEYS_SHOWN = 200
FILES, NO_SPACE = ":files", ":nospace"
_FILE_OPTIONS = ("config", "pid_file", "log_file")
_STATES = {
    "kill": ("running", "waiting"),
    "wait": ("running", "waiting"),
    "stack": ("running",),
    "free": ("ended",),
    "retry": ("ended",),
}


class Word(NamedTuple):
    """One word that fits, and what it means."""

    text: str
    meaning: str = ""


def complete(arguments: list[str]) -> int:
    """What the scripts ask: ``words WORD... CURRENT``, or ``line WORDBREAKS LINE`` from bash, which cuts words elsewhere."""
    try:
        if arguments[:1] == ["line"]:
            before, current, kept = _words_of(arguments[2], arguments[1])
        else:
            before, current, kept = arguments[1:-1], arguments[-1], 0
        found = fitting(before, current)
    except (RocksydError, IndexError, ValueError):
        return 0
    lines = []
    for word in found:
        text = clean(word.text)
        if arguments[0] == "line":
            text = _escaped(text[kept:]) if kept >= 0 else text
        lines.append(f"{text}\t{clean(word.meaning)}" if word.meaning and text not in (FILES, NO_SPACE) else text)
    write("".join(f"{line}\n" for line in lines))
    return 0


def _words_of(line: str, breaks: str) -> tuple[list[str], str, int]:
    """The words behind ``rocksyd``, the unfinished one, and how many of its characters bash takes for an earlier word.

    -1 for a word within quotes: bash cuts nothing off that, and nothing needs a backslash in it.
    """
    for quote in ("", '"', "'"):
        lexer = shlex.shlex(line + quote, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            words = list(lexer)
            break
        except ValueError:
            continue
    else:
        raise ValueError("quotes in quotes")
    if not quote and (not line or (line[-1].isspace() and not line.endswith("\\ "))):
        words.append("")
    for n in range(len(words) - 1, -1, -1):  # only this command's: another one may stand before it, in a pipe
        if words[n] and all(character in "();<>|&" for character in words[n]):
            words = words[n + 1 :] or [""]
            break
    start = next((n for n, word in enumerate(words) if word.rpartition("/")[2] == "rocksyd"), 0)
    current = words[-1]
    kept = -1 if quote else max((current.rfind(character) for character in ":=" if character in breaks), default=-1) + 1
    return words[start + 1 : -1], current, kept


def _escaped(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-:=/@%+,~^" or not c.isascii() else f"\\{c}" for c in text)


# --- what fits --------------------------------------------------------------------------------------------------------
def fitting(before: list[str], current: str) -> list[Word]:
    """The words that may stand in place of ``current``, behind the words ``before``."""
    parser = build_parser()
    place = Place(parser, before)
    if place.command:
        commands = next(action for action in parser._actions if isinstance(action.choices, dict))
        assert isinstance(commands.choices, dict)
        if place.command not in commands.choices:
            return []
        place = Place(commands.choices[place.command], place.rest, place.command, place.given)
    if place.option is not None:
        return _begin(current, _values(place, place.option))
    if place.options_possible and current.startswith("-"):
        option, equals, value = current.partition("=")
        if equals:
            action = next((one for one in place.parser._actions if option in one.option_strings), None)
            found = _begin(value, _values(place, action)) if action is not None else []
            return [word if word.text in (FILES, NO_SPACE) else Word(f"{option}={word.text}", word.meaning) for word in found]
        return _begin(current, _options(place))
    if place.positional is None:
        return []
    if not place.command:
        return _begin(current, (Word(name, command.summary) for name, command in COMMANDS.items()))
    return _begin(current, _values(place, place.positional))


def _begin(current: str, words: Iterable[Word]) -> list[Word]:
    found = [word for word in words if word.text in (FILES, NO_SPACE) or word.text.startswith(current)]
    if found and all(word.text.endswith("=") for word in found):
        found.append(Word(NO_SPACE))
    return found


class Place:
    """Where the next word stands: behind an option that takes a value, or as which positional argument."""

    def __init__(
        self, parser: argparse.ArgumentParser, before: list[str], command: str = "", given: dict[str, str] | None = None
    ) -> None:
        self.parser = parser
        self.command = command
        self.given = dict(given or {})
        """Values of options, and of positional arguments, by name."""
        self.used: set[str] = set()
        self.option: argparse.Action | None = None
        self.rest: list[str] = []
        self.options_possible = True
        self._positionals = [action for action in parser._actions if not action.option_strings]
        for n, word in enumerate(before):
            if self._take(word):
                self.command, self.rest = word, before[n + 1 :]
                return

    @property
    def positional(self) -> argparse.Action | None:
        """The positional argument that the next word is; None when there are enough."""
        return self._positionals[0] if self._positionals else None

    def _take(self, word: str) -> bool:
        """Go one word further; true when it is a command, whose own parser goes on."""
        if self.option is not None:
            self.given[self.option.dest], self.option = word, None
        elif word == "--" and self.options_possible:
            self.options_possible = False
        elif word.startswith("-") and len(word) > 1 and self.options_possible:
            name, equals, value = word.partition("=")
            action = next((one for one in self.parser._actions if name in one.option_strings), None)
            self.used.add(name)
            if action is not None and action.nargs != 0:
                if equals:
                    self.given[action.dest] = value
                else:
                    self.option = action
        elif self._positionals:
            action = self._positionals[0]
            if isinstance(action.choices, dict):
                return True
            self.given.setdefault(action.dest, word)
            if action.nargs == argparse.REMAINDER:
                self.options_possible = False
            elif action.nargs not in ("*", "+"):
                del self._positionals[0]
        return False


def _options(place: Place) -> list[Word]:
    return [
        Word(name, str(action.help or ""))
        for action in place.parser._actions
        for name in action.option_strings[-1:]
        if action.help != argparse.SUPPRESS and name not in place.used
    ]


def _values(place: Place, action: argparse.Action) -> Iterable[Word]:
    """What may stand for this argument."""
    name = action.dest
    if action.choices is not None:
        return [Word(str(choice)) for choice in action.choices]
    if name in _FILE_OPTIONS or action.nargs == argparse.REMAINDER:
        return [Word(FILES)]
    if name == "signal":
        return [Word(text, str(number)) for number, text in SIGNALS.items()]
    asked = {"key": _keys, "keys": _keys, "target": _targets, "values": _parameters, "app": _applications}.get(name)
    if asked is None or (place.command == "run" and name == "key"):  # that is a new one
        return []
    return _ask(asked, place)


# --- what the daemon knows --------------------------------------------------------------------------------------------
def _ask(question: Callable[[Client, Place], Iterable[Word]], place: Place) -> list[Word]:
    with Client(place.given.get("address"), timeout=ANSWER_WITHIN, patience=0.0) as client:
        return list(question(client, place))


def _keys(client: Client, place: Place) -> Iterable[Word]:
    states = _STATES.get(place.command, ("running", "waiting", "ended"))
    for records in client.requests([("list", {"state": state, "limit": KEYS_SHOWN}) for state in states]):
        for record in records:
            yield Word(str(record["key"]), f"{record.get('target')} {record.get('outcome') or record.get('state')}")


def _targets(client: Client, place: Place) -> Iterable[Word]:
    for row in client.targets(place.given.get("app")):
        if row.get("kind") != "pattern":
            yield Word(str(row["name"]), "" if row["target"] == row["name"] else str(row["target"]))


def _applications(client: Client, place: Place) -> Iterable[Word]:
    return [Word(name) for name in dict.fromkeys(str(row["app"]) for row in client.targets())]


def _parameters(client: Client, place: Place) -> Iterable[Word]:
    """``NAME=`` of each parameter of the target."""
    wanted = place.given.get("target")
    for row in client.targets(place.given.get("app")):
        if wanted in (row.get("name"), row.get("target")) and row.get("signature"):
            return [Word(f"{name}=", meaning) for name, meaning in _signature(row["signature"])]
    return []


def _signature(signature: dict[str, Any]) -> Iterable[tuple[str, str]]:
    from rocksyd.core.schema import expected

    for parameter in signature.get("parameters") or ():
        if parameter.get("kind") in (None, "keyword"):
            yield str(parameter["name"]), expected(parameter["schema"]) if parameter.get("schema") else ""
