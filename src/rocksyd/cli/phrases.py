"""What is said of one run, in a line. Imports nothing heavy: `check` uses it."""

from rocksyd.cli.output import clean
from rocksyd.client.records import failure_text, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rocksyd.client.records import Record

FAILED = 1
MINUTE, HOUR, DAY = 60, 3600, 86400


def describe(record: "Record", now: float) -> str:
    """``nightly: ended ok, retcode 0, 1.2 s``. ``now`` is Unix time."""
    state = str(record.get("state"))
    words = [f"{state} {record['outcome']}" if record.get("outcome") else state]
    if state == "ended":
        if record.get("outcome") != "ok":
            words.append(_why(record))
        words.append(f"retcode {record.get('retcode')}")
    elif state == "running" and record.get("pid"):
        words.append(f"pid {record['pid']}")
    if (record.get("attempt") or 1) > 1:
        words.append(f"attempt {record['attempt']}")
    progress = record.get("progress")
    if state == "running" and isinstance(progress, dict):
        words.append(progress_text(progress))
    seconds = age(record, now)
    if seconds is not None:
        words.append(elapsed(seconds))
    return clean(f"{record.get('key')}: {', '.join(word for word in words if word)}")


def _why(record: "Record") -> str:
    text = failure_text(record)
    if text in (record.get("outcome"), f"exit status {record.get('retcode')}"):
        return f"signal {signal_name(record['signal'])}" if record.get("signal") else ""
    return text


def age(record: "Record", now: float) -> "float | None":
    """Seconds that an ended run took, a running one has run, a waiting one has waited; None when nobody knows."""
    begin = record.get("started_at")
    end = now
    if record.get("state") == "ended":
        end = record.get("ended_at") or now
    elif record.get("state") == "waiting":
        begin = record.get("submitted_at")
    if not isinstance(begin, (int, float)) or not isinstance(end, (int, float)):
        return None
    return max(end - begin, 0.0)


def elapsed(seconds: float) -> str:
    """``12 ms``, ``1.2 s``, ``42 s``, ``3 min 12 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def progress_text(progress: "dict[str, Any]") -> str:
    """``40 % reading orders``; as much of it as the job has said."""
    done, total, note = progress.get("done"), progress.get("total"), str(progress.get("note") or "")
    if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
        return f"{100 * done / total:.0f} % {note}".rstrip()
    return f"{done:g} {note}".rstrip() if isinstance(done, (int, float)) else note


def exit_status(record: "Record") -> int:
    """The job's own exit status, as this command's: 0 only when it ended well."""
    retcode = record.get("retcode")
    if record.get("outcome") == "ok":
        return 0
    return retcode if isinstance(retcode, int) and 0 < retcode < 256 else FAILED
