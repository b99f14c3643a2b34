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
    code.InteractiveConsole(names).interact(text, exitmsg="")
