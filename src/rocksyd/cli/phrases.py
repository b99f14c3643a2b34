"""What is said of one run, in a line. Imports nothing heavy: `check` uses it."""

from rocksyd.cli.output import clean
from rocksyd.client.records import failure_text, signal_name
from rocksyd.units import rough_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rocksyd.client.records import Record

FAILED = 1


def describe(record: "Record", now: float) -> str:
    """``nightly: ended ok, retcode 0, 1.2s``. ``now`` is Unix time."""
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
        words.append(rough_duration(seconds))
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


def clock(at: "float | None", now: float) -> str:
    """``14:03:22`` for a moment of today, ``Nov 28 14:03`` of this year, else ``2025-11-28``; "" for none. Both are Unix time."""
    from time import localtime, strftime

    if not at:
        return ""
    then, today = localtime(at), localtime(now)
    if then[:3] == today[:3]:
        return strftime("%H:%M:%S", then)
    return strftime("%b %d %H:%M" if then[0] == today[0] else "%Y-%m-%d", then)


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
