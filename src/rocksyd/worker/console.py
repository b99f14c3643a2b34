"""The prompt of a Python that was started without a script, in a process that was forked.

What must live here: the banner and the loop. What this file must not know: whose terminal it is.
"""

from __future__ import annotations

import sys
from typing import Any


def interact(names: dict[str, Any], *, banner: bool) -> None:
    """Read, evaluate, print, until the input ends. Raises SystemExit as the person says."""
    import code  # noqa: PLC0415  (who wants a prompt can wait for it)

    try:
        import readline  # noqa: PLC0415
        import rlcompleter  # noqa: PLC0415

        readline.parse_and_bind("tab: complete")
        readline.set_completer(rlcompleter.Completer(names).complete)
    except ImportError:
        pass
    text = ""
    if banner:
        more = 'Type "help", "copyright", "credits" or "license" for more information.'
        text = f"Python {sys.version} on {sys.platform}\n{more}"
    console = code.InteractiveConsole(names)
    if not sys.stdin.isatty():
        console.raw_input = _unseen_input  # type: ignore[method-assign]
    console.interact(text, exitmsg="")


def _unseen_input(prompt: str = "") -> str:
    """Without a terminal a prompt is no output."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
