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


_NONE: dict[str, str] = {}


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a frozen value: subclasses declare fields like ``master: int``, with a default behind those without."""

    __slots__ = ("__dict__",)
    _fields: dict[str, str] = {}
    """Annotations by field."""

    def __init_subclass__(cls) -> None:
        cls._fields = cls.__annotations__
        # Nobody else needs them, and an empty dictionary a class is memory, too.
        cls.__annotations__ = _NONE

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__dict__
        if named:
            if not named.keys() <= self._fields.keys():
                raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(named.keys() - self._fields.keys()))}")
            fields.update(named)
        if values:
            fields.update(zip(self._fields, values))  # noqa: B905  (the length is compared below, and `strict` costs every message)
            if len(fields) != len(values) + len(named):
                raise TypeError(
                    f"{type(self).__name__}({', '.join(self._fields)}): more values than fields, or one of them twice"
                )

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
        if not named.keys() <= self._fields.keys():
            return type(self)(**named)  # which says what is wrong
        changed: Any = object.__new__(type(self))
        changed.__dict__.update(self.__dict__)
        changed.__dict__.update(named)
        return changed

    def _shown(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self._fields]
