"""The arguments of a management command: what may be given by name, and how ``call_command`` wants it.

What must live here: argparse's actions turned into a signature (its form: ``core.signature``), and given values into words and
options. What this file must not know: Django, but for what its ``call_command`` takes.

By name is what JSON and ``NAME=VALUE`` can say: options and positional arguments alike, under the name that ``handle`` sees. An
array is the words of a command line. A string for an option with a ``type`` is read by that type, as on a command line;
``call_command`` alone would hand it over as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from rocksyd.errors import JobError

BASE = ("verbosity", "traceback", "no_color", "force_color", "skip_checks")
"""Options every command has; listed last."""
UNUSABLE = ("help", "version", "settings", "pythonpath")
"""Options that only mean something before Django is loaded, or to a person."""
WORDS = "args"
_MOST_CHOICES = 100
_NULL = {"type": "null"}
_FLAGS = (argparse._StoreTrueAction, argparse._StoreFalseAction, argparse.BooleanOptionalAction)
_SIMPLE: dict[Any, dict[str, Any]] = {int: {"type": "integer"}, float: {"type": "number"}}

Schema = dict[str, Any]


class Arguments:
    """The arguments of one command.

    Args:
        name: the job's, for errors.
        parser: what the command's ``create_parser`` makes.
        stealth: further names that the command takes from ``call_command`` (``stealth_options``).
    """

    def __init__(self, name: str, parser: argparse.ArgumentParser, stealth: Iterable[str] = ()) -> None:
        self._name = name
        self._open = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
        actions = [action for action in _actions(parser) if action.dest not in (argparse.SUPPRESS, *UNUSABLE)]
        self._positional = [action for action in actions if not action.option_strings]
        self._options: dict[str, argparse.Action] = {}
        for action in actions:
            if action.option_strings:
                self._options.setdefault(action.dest, action)
        for action in list(self._options.values()):
            if not isinstance(action, _FLAGS):  # an alias of a flag that means its contrary would lie
                self._options.setdefault(_alias(action), action)
        exclusive = [group for group in parser._mutually_exclusive_groups if group.required]
        self._parsed = {action.dest for group in exclusive for action in group._group_actions}
        self._parsed |= {action.dest for action in actions if action.required}
        self._stealth = [name for name in stealth if name not in self._options]

    # --- what there is ------------------------------------------------------------------------------------------------
    def signature(self) -> dict[str, Any]:
        """The signature as READY carries it."""
        own = [name for name in self._options if name not in BASE]
        named = [*own, *self._stealth, *(name for name in BASE if name in self._options)]
        parameters = [self._parameter(action.dest, action) for action in self._positional]
        parameters += [self._parameter(name, self._options.get(name)) for name in named]
        found: dict[str, Any] = {"parameters": [*parameters, {"name": WORDS, "kind": "rest"}], "words": True}
        if self._open:
            found["open"] = True
        return found

    def _parameter(self, name: str, action: argparse.Action | None) -> dict[str, Any]:
        parameter: dict[str, Any] = {"name": name, "kind": "keyword"}
        if action is None:
            return parameter
        if is_required(action) and not self._open:
            parameter["required"] = True
        schema = schema_of(action)
        if schema and action.default is None and not action.required:
            schema = {"anyOf": [*(schema["anyOf"] if set(schema) == {"anyOf"} else [schema]), _NULL]}
        if schema:
            parameter["schema"] = schema
        return parameter

    # --- what is given ------------------------------------------------------------------------------------------------
    def of(self, words: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """What ``call_command`` is to be called with, behind the command's name. Raises JobError, which names the parameter."""
        given = dict(options)
        placed = [*words, *_listed(given.pop(WORDS, ()))]
        missing = ""
        for action in self._positional:
            if action.dest not in given:
                missing = missing or action.dest
                continue
            if missing:
                raise JobError(f"{self._name}: {action.dest!r} stands behind {missing!r} and cannot be given without it")
            placed += [self._safe(action.dest, value) for value in _listed(given.pop(action.dest))]
        return [str(word) for word in placed], {name: self._converted(name, value) for name, value in given.items()}

    def _safe(self, name: str, value: Any) -> str:
        text = str(value)
        if text.startswith("-") and text != "-" and not isinstance(value, int | float):
            raise JobError(
                f"parameter {name!r} of {self._name}: {text!r} begins with - and would be taken for an option;"
                " if it is meant as one, give params as an array, the words of a command line"
            )
        return text

    def _converted(self, name: str, value: Any) -> Any:
        action = self._options.get(name)
        if action is None or action.dest in self._parsed:  # argparse itself sees the latter
            return value
        if is_list(action) and value is not None:
            return [self._one(name, action, item) for item in _listed(value)]
        return self._one(name, action, value)

    def _one(self, name: str, action: argparse.Action, value: Any) -> Any:
        if not isinstance(value, str) or not callable(action.type):
            return value
        try:
            return action.type(value)
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            raise JobError(f"parameter {name!r} of {self._name}: {value!r} cannot be used: {error}") from error


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
        else:
            yield action


def _alias(action: argparse.Action) -> str:
    """The other name that ``call_command`` knows an option by."""
    return min(action.option_strings).lstrip("-").replace("-", "_")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_required(action: argparse.Action) -> bool:
    """Whether it must be given under this name (a positional ``*`` calls itself required; an alias does as well as the name)."""
    if not action.option_strings:
        return action.required and action.nargs not in ("?", "*")
    return action.required and _alias(action) == action.dest


def is_list(action: argparse.Action) -> bool:
    """Whether ``handle`` gets a list."""
    many = action.nargs in ("*", "+") or (isinstance(action.nargs, int) and action.nargs > 0)
    return many or isinstance(action, (argparse._AppendAction, argparse._ExtendAction))


def schema_of(action: argparse.Action) -> Schema:
    """What JSON fits one argument; ``{}`` when nothing certain can be said."""
    if isinstance(action, _FLAGS):
        return {"type": "boolean"}
    if isinstance(action, argparse._CountAction):
        return {"type": "integer"}
    if isinstance(action, argparse._AppendAction) and action.nargs is not None:
        return {}
    try:
        item = _choices(action.choices) if action.choices is not None else _SIMPLE.get(action.type, {})
    except TypeError:  # a type that cannot be hashed
        item = {}
    if item and is_list(action):
        return {"anyOf": [item, {"type": "array", "items": item}]}
    return item


def _choices(choices: Any) -> Schema:
    values = list(choices)
    plain = all(type(value) in (str, int, bool) for value in values)
    return {"enum": values} if plain and 0 < len(values) <= _MOST_CHOICES else {}
