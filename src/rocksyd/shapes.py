"""Whether JSON that came from elsewhere has the shape that is expected of it: how deep it nests, and of which types it is.

What must live here: the limits of nesting, and the check that an annotation such as ``dict[str, int] | None`` stands for.
What this file must not know: whose fields they are.

Nothing here recurses into a value, so that the depth of a value is never the depth of the stack.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_DEPTH = 512
"""How deep arrays and objects may nest in what a client says: the limit of PHP's ``json_decode``."""
MAX_PARAMS = 200
"""How deep they may nest in a run's params: as deep as in its result (``worker.results``)."""
MAX_INSIDE = MAX_DEPTH + 8
"""How deep they may nest in messages, journal and snapshots, which put a few levels around what clients and jobs say. Python's
JSON encoder takes some 950 levels (3.11; later versions take more)."""


def deeper_than(value: Any, limit: int) -> bool:
    """Whether arrays and objects nest deeper in ``value``."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(limit):
        if not level:
            return False
        members = (member for item in level for member in (item.values() if isinstance(item, dict) else item))
        level = [member for member in members if isinstance(member, list | dict)]
    return bool(level)


_PLAIN = frozenset({str, bool, type(None)})


class Shape:
    """The shape that an annotation stands for in JSON, where a tuple is an array.

    ``types`` are those that the value itself may have, exactly; empty for any. ``inside`` checks what is in it; None where that
    may be anything. Apart from each other, because most fields are done with after a glance at their type.
    """

    __slots__ = ("inside", "plain", "types")

    def __init__(self, kind: Any) -> None:
        self.types: tuple[type, ...] = ()
        self.inside: Callable[[Any], bool] | None = None
        members: Any = getattr(kind, "__args__", ())
        origin = getattr(kind, "__origin__", kind)
        if isinstance(kind, type(int | None)):
            shapes = [Shape(one) for one in members]
            self.types = tuple(found for shape in shapes for found in shape.types)
            if any(shape.inside for shape in shapes):
                self.inside = lambda value: any(shape.fits(value) for shape in shapes)
        elif kind is Failure:
            self.types, self.inside = (dict,), _is_failure
        elif origin is dict:
            values = Shape(members[1])
            self.types = (dict,)
            self.inside = (lambda value: all(map(values.fits, value.values()))) if values.types else None
        elif origin is tuple and members[-1] is ...:
            each = Shape(members[0])
            self.types, self.inside = (list,), lambda value: all(map(each.fits, value))
        elif origin is tuple:
            row = [Shape(one) for one in members]
            self.types = (list,)
            self.inside = lambda value: len(value) == len(row) and all(s.fits(v) for s, v in zip(row, value, strict=True))
        elif kind is not object:
            self.types = (float, int) if kind is float else (kind,)
        self.plain = frozenset(self.types) & _PLAIN
        """Those of ``types`` whose values all fit: there is nothing to look at."""

    def fits(self, value: Any) -> bool:
        """Whether a value has this shape. Numbers have to be finite, and whole ones to fit into 64 bits."""
        kind = type(value)
        if not self.types:
            return True
        if kind is float or kind is int:
            return kind in self.types and (value - value == 0 if kind is float else -_MOST <= value < _MOST)
        return kind in self.types and (self.inside is None or self.inside(value))


class Failure(dict):  # type: ignore[type-arg]
    """``{"type", "message", "traceback"}`` of an uncaught exception."""


def _is_failure(value: Any) -> bool:
    return all(type(value.get(name)) is str for name in ("type", "message", "traceback"))


_MOST = 2**63
_NAMES = {"Any": object, "Json": object, "Failure": Failure}
_shapes: dict[str, Shape] = {}


def shape_of(annotation: str) -> Shape:
    """The shape that an annotation such as ``dict[str, int] | None`` stands for; ``Json`` and ``Any`` are anything."""
    if annotation not in _shapes:
        _shapes[annotation] = Shape(eval(annotation, dict(_NAMES)))
    return _shapes[annotation]
