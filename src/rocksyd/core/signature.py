"""Whether a run's parameters fit the job they are for, by the signature that its zygote has reported.

What must live here: binding parameters to a signature, and the sentence that names the one that does not fit.
What this file must not know: Python's functions (the zygote reads those, ``zygote.signatures``).

A signature is plain data: ``{"parameters": [{"name", "kind", "required", "schema"}, ...], "open": true}``. ``kind`` is
``positional``, ``keyword``, ``rest`` (``*args``) or ``others`` (``**kwargs``); left out it is either of the first two.
``open`` is a function behind a decorator, which may add and take away parameters as it likes: only the types of those
given by name are looked at. ``words`` is a command: an array is the words of a command line, and nothing is held against them.
"""

from __future__ import annotations

from typing import Any

from rocksyd.config.table import nearest
from rocksyd.core import schema

POSITIONAL, KEYWORD, REST, OTHERS = "positional", "keyword", "rest", "others"

Signature = dict[str, Any]
_Parameter = dict[str, Any]


def problem(signature: Signature, params: Any) -> tuple[str, str]:
    """The name of the first parameter that does not fit, and what is wrong with it; ``("", "")`` when all fit."""
    parameters: list[_Parameter] = signature["parameters"]
    if isinstance(params, dict):
        return _by_name(parameters, params, everything=not signature.get("open"))
    if signature.get("open") or (signature.get("words") and isinstance(params, list)):
        return "", ""
    return _by_position(parameters, params if isinstance(params, list) else [] if params is None else [params])


def shown(signature: Signature) -> str:
    """``(day: a date such as 2026-01-31, shard: a whole number = ...)``: what may be given, for an error's ``data``."""
    words = []
    for parameter in signature["parameters"]:
        star = {REST: "*", OTHERS: "**"}.get(parameter.get("kind", ""), "")
        text = star + str(parameter["name"])
        if parameter.get("schema"):
            text += f": {schema.expected(parameter['schema'])}"
        words.append(text + (" (optional)" if not star and not parameter.get("required") else ""))
    return f"parameters: {'; '.join(words) or 'none'}"


def _by_name(parameters: list[_Parameter], params: dict[str, Any], *, everything: bool) -> tuple[str, str]:
    known = {p["name"]: p for p in parameters if p.get("kind") in (None, KEYWORD)}
    others = next((p for p in parameters if p.get("kind") == OTHERS), None)
    for name, value in params.items():
        parameter = known.get(name, others)
        if parameter is None:
            if everything:
                return name, _unknown(name, parameters)
            continue
        found = schema.problem(value, parameter.get("schema", {}), f"parameter {name!r}")
        if found:
            return name, found
    for parameter in parameters if everything else ():
        name = parameter["name"]
        if parameter.get("required") and (name not in params or parameter.get("kind") == POSITIONAL):
            return name, _missing(parameter)
    return "", ""


def _unknown(name: str, parameters: list[_Parameter]) -> str:
    if any(p["name"] == name and p.get("kind") == POSITIONAL for p in parameters):
        return f"parameter {name!r} can only be given by position: give params as an array"
    near = nearest(name, tuple(str(p["name"]) for p in parameters if p.get("kind") in (None, KEYWORD)))
    return f"there is no parameter {name!r}{near and f' (did you mean {near}?)'}"


def _missing(parameter: _Parameter) -> str:
    name = parameter["name"]
    if parameter.get("kind") == POSITIONAL:
        return f"parameter {name!r} can only be given by position: give params as an array"
    return f"parameter {name!r} is missing"


def _by_position(parameters: list[_Parameter], params: list[Any]) -> tuple[str, str]:
    places = [p for p in parameters if p.get("kind") in (None, POSITIONAL)]
    rest = next((p for p in parameters if p.get("kind") == REST), None)
    for index, value in enumerate(params):
        parameter = places[index] if index < len(places) else rest
        if parameter is None:
            return "", f"{len(params)} parameters by position, and it takes at most {len(places)}"
        found = schema.problem(value, parameter.get("schema", {}), f"parameter {parameter['name']!r}")
        if found:
            return parameter["name"], found
    for parameter in places[len(params) :]:
        if parameter.get("required"):
            return parameter["name"], _missing(parameter)
    for parameter in parameters:
        if parameter.get("kind") == KEYWORD and parameter.get("required"):
            return parameter["name"], f"parameter {parameter['name']!r} can only be given by name: give params as an object"
    return "", ""
