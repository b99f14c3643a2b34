"""Values as small as they can be: what ``typing.NamedTuple`` is for, at a tenth of its memory.

Every NamedTuple class costs its process some 12 KB (compiled constructor, one property object a field ...), ``typing`` itself
400 KB, and messages and the keeper's decisions are seventy classes in a process that is to stay under 12 MB.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """What type checkers know it as."""
        return lambda cls: cls


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

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self._fields)

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}

    def _replace(self, **named: Any) -> Any:
        return type(self)(**{**self._asdict(), **named})

    def _shown(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self._fields]
