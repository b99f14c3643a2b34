"""The methods that set flags, take them away and show them.

What must live here: what each of them is to the engine, and what the log says of it.
What this file must not know: whose runs a flag holds for, and what it does to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rocksyd import codes
from rocksyd.core import events as ev
from rocksyd.core import flags, targets
from rocksyd.errors import RequestError
from rocksyd.master.desk.clients import Clients, who
from rocksyd.master.desk.pieces import Work
from rocksyd.master.desk.rpc import Rpc
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.turn import Turn
from rocksyd.posix.log import log
from rocksyd.units import format_duration, parse_duration


class Flags:
    """What callers want to hold for a while."""

    def __init__(self, turn: Turn, clients: Clients) -> None:
        self._turn = turn
        self._clients = clients
        turn.performs(ev.FlagEnded, lambda effect: _say("is over", effect.row, "flag.ended"))

    def serve(self, rpc: Rpc) -> None:
        """Serve these methods."""
        rpc.serves("flag", self._flag)
        rpc.serves("unflag", self._unflag)
        rpc.serves("flags", self._flags)

    def _flag(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        engine, whose = self._turn.engine, _whose(params)
        try:
            span = parse_duration(params.get("for", flags.USUAL))
        except ValueError as error:
            raise RequestError(codes.INVALID_PARAMS, f"for: {error}", data={"parameter": "for"}) from None
        if not 0 < span <= flags.LONGEST:
            text = f"for must be more than 0 and at most {format_duration(flags.LONGEST)}"
            raise RequestError(codes.INVALID_PARAMS, text, data={"parameter": "for"})
        if "target" in whose and not any(app.find(whose["target"]) for app in engine.applications.values()):
            targets.resolve(engine.applications, None, whose["target"])  # says what there is instead
        if self._turn.writing.trouble:
            raise RequestError(codes.NOT_NOW, "the journal cannot be written", data=self._turn.writing.trouble)
        row = {"flag": params["flag"], **whose, "until": self._turn.now.wall + span, "by": who(self._clients, caller.client)}
        if flags.name_of(row) not in engine.flags and len(engine.flags) >= flags.MOST:
            raise RequestError(codes.TOO_BUSY, f"there are {flags.MOST} flags already", data="unflag takes one away")
        self._turn.step(ev.PutFlag(row))
        _say(f"holds until {datetime.fromtimestamp(row['until']).astimezone():%Y-%m-%d %H:%M:%S %z}", row, "flag.set")
        return row

    def _unflag(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        name = flags.name_of({"flag": params["flag"], **_whose(params)})
        flag = self._turn.engine.flags.get(name)
        if flag is not None:
            self._turn.step(ev.DropFlag(name))
            _say(f"was taken away ({who(self._clients, caller.client)})", flag.row, "flag.removed")
        return {"removed": flag is not None}

    def _flags(self, caller: Caller, params: dict[str, Any]) -> Work:
        found = []
        for flag in list(self._turn.engine.flags.values()):
            found.append(flag.row)
            yield
        return found


def _whose(params: dict[str, Any]) -> dict[str, str]:
    """Whose runs are meant. Raises RequestError."""
    found: dict[str, str] = {name: params[name] for name in ("target", "script") if name in params}
    if len(found) != 1:
        raise RequestError(codes.INVALID_PARAMS, "name one of target, script")
    return found


def _say(what: str, row: dict[str, Any], event: str) -> None:
    whose = f"target {row['target']}" if "target" in row else f"script {row['script']}"
    log("master", f"flag {row['flag']} of {whose} {what} (set by {row['by']})", event=event)
