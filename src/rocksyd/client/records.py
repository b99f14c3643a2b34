"""Reading what the daemon says of runs: records are plain dictionaries (``key``, ``state``, ``outcome``, ``retcode`` ...).

What must live here: what every reader of a record has to know.
What this file must not know: how records come here, how they are shown.
"""

from rocksyd.errors import JobFailed, ResultDropped
from rocksyd.exit_status import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]


def failure(record: "Record") -> "JobFailed | None":
    """What went wrong with an ended run, as an exception; None when it ended well or has not ended."""
    outcome = record.get("outcome")
    if record.get("state") != "ended" or outcome in ("ok", None):
        return None
    return JobFailed(f"{record.get('key')} ({record.get('target')}) {outcome}: {failure_text(record)}", record)


def returned(result: "Any") -> "Any":
    """What the job returned: from its record, or from what ``call`` brings. Raises ResultDropped."""
    if not isinstance(result, dict):
        return result
    if result.get("result_dropped"):
        why = str(result["result_dropped"])
        advice = "" if "JSON has no form for" in why else "; return less, or the name of a file"
        raise ResultDropped(f"{result.get('key')}: {why}{advice}", result)
    return result.get("result")


def failure_text(record: "Record") -> str:
    """One line on why a run did not end well: the exception, the limit, the signal or the exit status."""
    error = record.get("error")
    if isinstance(error, dict):
        kind, message = str(error.get("type") or ""), str(error.get("message") or "")
        text = f"{kind}: {message}" if kind and message else kind or message
        lines = text.strip().splitlines() or str(error.get("traceback") or "").strip().splitlines()[-1:]
        if lines:
            return lines[0]
    if record.get("reason"):
        return str(record["reason"])
    if record.get("signal"):
        return f"signal {signal_name(record['signal'])}"
    return f"exit status {record.get('retcode')}"


def records_of(result: "Any") -> "list[Record]":
    """The records in the result of ``list`` (a list, or an object with one under ``runs``)."""
    if isinstance(result, dict):
        result = result.get("runs", [])
    return [item for item in result if isinstance(item, dict)] if isinstance(result, list) else []


def timed_out(result: "Any") -> bool:
    """Whether the result of ``wait`` says that the run has not ended in time."""
    return result == "timed_out" or (isinstance(result, dict) and bool(result.get("timed_out")))


def signal_name(number: "Any") -> str:
    """``KILL (9)``; only the number for a signal that seldom ends a process."""
    name = SIGNALS.get(number)
    return f"{name} ({number})" if name else str(number)
