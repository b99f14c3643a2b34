"""Masters that wait where a test wants them to: a gate written into a copy of the package, at the beginning of a function.

The gate is a file. While it is there, whoever comes to the place waits; ``Held.wait_reached`` returns when somebody does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rocksyd.testing import until
from rocksyd.testing.daemon import copy_package

_HOLD = """
{indent}import os, time
{indent}while os.path.exists({gate!r}):
{indent}    try:
{indent}        with open({gate!r}) as file:
{indent}            token = file.read()
{indent}    except FileNotFoundError:
{indent}        break
{indent}    open({gate!r} + "." + token, "w").close()
{indent}    time.sleep(0.005)
"""


class Held:
    """One place in the code of masters, and its gate."""

    def __init__(self, name: str, gate: Path) -> None:
        self.name, self._gate = name, gate
        self._count = 0

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Whoever comes there from now on waits, until the block ends."""
        self._count += 1
        written = self._gate.with_suffix(".new")
        written.write_text(str(self._count))
        written.rename(self._gate)
        try:
            yield
        finally:
            self._gate.unlink()

    def wait_reached(self) -> None:
        """Wait until somebody waits there."""
        until(Path(f"{self._gate}.{self._count}").exists, f"a master at the place {self.name!r}")


def package_with_gates(folder: Path, places: dict[str, tuple[str, str]]) -> tuple[Path, dict[str, Held]]:
    """A copy of the package with a gate at each of these places of ``master``: how the line of a function begins, and a
    condition that holds in it ("" for always)."""
    package, held = copy_package(folder / "held"), {}
    for name, (where, condition) in places.items():
        gate = folder / f"gate-{name}"
        held[name] = Held(name, gate)
        files = [path for path in sorted((package / "master").rglob("*.py")) if where in path.read_text()]
        if len(files) != 1:
            raise AssertionError(f"{len(files)} files of masters have {where!r}")
        before, _, after = files[0].read_text().partition(where)
        line, _, rest = after.partition("\n")
        indent = " " * (len(where) - len(where.lstrip()) + 4)
        hold = _HOLD.format(indent=indent + "    " * bool(condition), gate=str(gate))
        code = f"\n{indent}if {condition}:{hold}" if condition else hold
        files[0].write_text(f"{before}{where}{line}{code}{rest}")
    return package, held
