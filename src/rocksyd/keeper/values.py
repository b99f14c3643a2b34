"""Values as small as they can be: what ``typing.NamedTuple`` is for, at a tenth of its memory.

Every NamedTuple class costs its process some 12 KB (compiled constructor, one property object a field ...), and the keeper's
decisions are thirty classes. A value here has its fields from its annotations, and equality and a readable ``repr`` for tests.
"""

from __future__ import annotations

from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a frozen value: subclasses declare fields like ``master: int``, with a default behind those without."""

    __slots__ = ("__dict__",)
    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(cls.__annotations__)
        # Only the names were needed; what is left would be a dictionary a class.
        cls.__annotations__ = {}

    def __init__(self, *values: Any, **named: Any) -> None:
        self.__dict__.update(zip(self._fields, values, strict=False), **named)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is a value: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and type(self) is type(other) and self._shown() == other._shown()

    def __hash__(self) -> int:
        return hash((type(self), str(self)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._shown())
        return f"{type(self).__name__}({fields})"

    def _shown(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self._fields]
