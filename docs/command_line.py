"""The commands of ``rocksyd``, as Markdown: made from the parser that reads them.

What must live here: how a command is written down. What this file must not know: which commands there are.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from rocksyd.cli.commands import COMMANDS, STATUSES, Parser

_EVERYWHERE = frozenset(("help", "address", "json"))
"""Said once, above all commands."""


def commands(_: list[str]) -> Iterable[str]:
    """``commands``: each with its usage, what it takes, and examples."""
    for name, command in COMMANDS.items():
        parser = Parser(prog=name, add_help=False)
        command.declare(parser)
        actions = [action for action in parser._actions if action.dest not in _EVERYWHERE]
        words = ["rocksyd", name, *(["[OPTION...]"] if any(one.option_strings for one in actions) else [])]
        yield from (f"### `rocksyd {name}`", "", f"{command.summary[0].upper()}{command.summary[1:]}.", "")
        yield from ("```sh", " ".join([*words, *(_positional(one) for one in actions if not one.option_strings)]), "```", "")
        if actions:
            yield from ("| | |", "| --- | --- |", *(f"| {_name(one)} | {_told(one)} |" for one in actions), "")
        if command.examples:
            yield from ("```sh", *(line.strip() for line in command.examples.splitlines()), "```", "")


def statuses(_: list[str]) -> Iterable[str]:
    """``statuses``: what the exit statuses mean."""
    yield from ("| status | |", "| --- | --- |")
    for number, meaning in re.findall(r"(\d+) (.*?)(?=   \d|\n|$)", STATUSES):
        yield f"| {number} | {meaning.strip()} |"


def _positional(action: argparse.Action) -> str:
    name = _metavar(action)
    return {None: name, "?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}..."}.get(action.nargs, name)


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest)


def _name(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else " " + _metavar(action)
    words = [f"`{word}{value if word == action.option_strings[-1] else ''}`" for word in action.option_strings]
    return _cell(", ".join(words) or f"`{_metavar(action)}`")


def _told(action: argparse.Action) -> str:
    return _cell((action.help or "").replace("%%", "%"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
