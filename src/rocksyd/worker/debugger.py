"""A debugger that a script has set goes on in what is the script's, and sees nothing of ours.

What must live here: the seam between both, in calls and in tracebacks. What this file must not know: what a script is.

A debugger traces whatever is called while it is on, and marks all the callers of the function in which it is set, to go on there.
So the code is called from one line, on which the debugger is also laid aside: by functions in C, because one in Python would be
traced. Two ways lead to a debugger: ``sys.settrace``, and from Python 3.14 on ``sys.monitoring``, where pdb uses it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from itertools import repeat
from typing import Any

_monitoring: Any = getattr(sys, "monitoring", None)  # since Python 3.12
_TOOL = 0
"""``sys.monitoring.DEBUGGER_ID``"""
_EVENTS = [number for number in vars(_monitoring.events).values() if isinstance(number, int) and number] if _monitoring else []
_tool: Callable[[int], Any] = _monitoring.get_tool if _monitoring else {}.get
_call_back: Any = _monitoring.register_callback if _monitoring else None
"""Returns what was registered before."""


class Debugger:
    """What a script has set, while it is laid aside."""

    def __init__(self) -> None:
        self._trace: Any = None
        self._callbacks: list[Any] = []
        """One for each of ``_EVENTS``; none where there is no such debugger."""

    def with_it(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something of the script's, with its debugger on; whatever is raised is raised."""
        trace: list[Any] = []
        back, self._callbacks = self._callbacks, []
        try:
            _called_with((self._trace, back), (trace, self._callbacks), call, arguments)
        finally:
            self._trace = trace[0] if trace else sys.gettrace()
            sys.settrace(None)
            if not trace and _tool(_TOOL):
                self._callbacks.extend(map(_call_back, repeat(_TOOL), _EVENTS, repeat(None)))


def _called_with(
    on: tuple[Any, list[Any]], off: tuple[list[Any], list[Any]], call: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    (any(map(_call_back, repeat(_TOOL), _EVENTS, on[1])), sys.settrace(on[0]), call(*arguments), off[0].append(sys.gettrace()), sys.settrace(None), _tool(_TOOL) and off[1].extend(map(_call_back, repeat(_TOOL), _EVENTS, repeat(None))))  # type: ignore[func-returns-value]  # noqa: E501  # fmt: skip


def without_ours(traceback: types.TracebackType | None, *files: str) -> types.TracebackType | None:
    """A traceback from the first frame on that is neither of ``files`` nor of this file."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in (__file__, *files):
        traceback = traceback.tb_next
    return traceback
