"""JSON as RFC 8259 has it, and no more than a daemon can afford.

Python's own reader takes ``NaN`` and ``Infinity``, lets ``1e999`` become infinite, keeps half a surrogate pair (which nothing
can store or send on), and nests as deep as the stack happens to allow. None of it comes past here.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from rocksyd.shapes import MAX_DEPTH, deeper_than


class NotJson(ValueError):
    """The text is not JSON; the message says what is wrong with it."""


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise NotJson(f"the number {text[:20]} is too large")
    return number


_decode = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite).decode


def loads(text: str) -> Any:
    """The value that ``text`` is. Of members with the same name the last wins.

    Raises:
        NotJson: it is not JSON, or nests deeper than MAX_DEPTH.
    """
    try:
        value = _decode(text)
    except RecursionError:
        raise NotJson(f"nests deeper than {MAX_DEPTH} levels") from None
    except NotJson:
        raise
    except ValueError as error:  # JSONDecodeError, and int() of more than 4300 digits
        raise NotJson(str(error)) from None
    # What does not even hold so many brackets cannot nest so deep: nearly every request ends here.
    if text.count("[") + text.count("{") > MAX_DEPTH and deeper_than(value, MAX_DEPTH):
        raise NotJson(f"nests deeper than {MAX_DEPTH} levels")
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(value)
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotJson("half of a surrogate pair is not a character") from None
