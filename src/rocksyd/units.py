"""Durations and sizes as people write them: ``"10s"`` and ``"512M"`` to seconds and bytes, and back.

Durations are ``ms s m h d``, also one after another (``"1h30m"``); a plain number is seconds. Sizes are 1024-based
``K M G T``, with or without ``iB``; a plain number is bytes. ``MB`` is refused, because half of its readers mean a million.
"""

from __future__ import annotations

MAX_DURATION = 100 * 365 * 86400.0
"""Seconds of the longest duration taken (a century): what is longer is a slip, and overflows the system's timers."""
MAX_SIZE = 2**63 - 1
"""Bytes of the largest size taken: what a file's offset and an SQLite integer can hold."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = rf"(?:{_NUMBER}(?:ms|s|m|h|d))+"
_DURATION_PART = rf"({_NUMBER})(ms|s|m|h|d)"
_SIZE = rf"({_NUMBER})(?:([KMGT])(?:iB)?|B)?"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_duration(value: object) -> float:
    """Seconds in ``value``: a string such as ``"250ms"``, ``"1h30m"``, ``"10"``, or a number of seconds.

    Raises:
        ValueError: not a duration, negative, or longer than MAX_DURATION; the message says what was expected.
    """
    if isinstance(value, str):
        return _within(_seconds(value), value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _within(value, value)
    raise ValueError(f'expected a duration such as "10s", got {shown(value)}')


def _seconds(text: str) -> float:
    import re  # noqa: PLC0415  (4 ms that those who only write durations, as `rocksyd check` does, are spared)

    if re.fullmatch(_NUMBER, text):
        return float(text)
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f'expected a duration such as "10s" (units: ms, s, m, h, d), got {shown(text)}')
    # Milliseconds are divided, not multiplied by 0.001: 250 / 1000 is the nearest float to a quarter of a second.
    parts = re.findall(_DURATION_PART, text)
    return sum(float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit] for number, unit in parts)


def _within(seconds: float, value: object) -> float:
    # Compared before float(): a huge integer does not fit one. NaN fails both comparisons.
    if not seconds >= 0:
        raise ValueError(f'expected a duration of zero or more such as "10s", got {shown(value)}')
    if not seconds <= MAX_DURATION:
        raise ValueError(f'expected a duration such as "10s", got {shown(value)}, which is longer than a century')
    return float(seconds)


def parse_size(value: object) -> int:
    """Bytes in ``value``: a string such as ``"512M"``, ``"1.5GiB"``, ``"4096"``, or an integer number of bytes.

    Raises:
        ValueError: not a size, negative, or larger than MAX_SIZE; the message says what was expected.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        size = _bytes(value)
    else:
        raise ValueError(f'expected a size such as "512M", got {shown(value)}')
    if size < 0:
        raise ValueError(f'expected a size of zero or more such as "512M", got {shown(value)}')
    if size > MAX_SIZE:
        raise ValueError(f'expected a size such as "512M", got {shown(value)}, which no file can have')
    return size


def _bytes(text: str) -> int:
    import re  # noqa: PLC0415  (as above)

    found = re.fullmatch(_SIZE, text, re.IGNORECASE | re.ASCII)
    if found is None or len(text) > 40:
        raise ValueError(f'expected a size such as "512M" (units: K, M, G, T, each 1024 of the one before), got {shown(text)}')
    number, scale = found[1], _BYTES[(found[2] or "").upper()]
    # Whole numbers stay integers: a float would round above 2**53.
    return int(float(number) * scale) if "." in number else int(number) * scale


def format_duration(seconds: float) -> str:
    """``seconds`` for people, at most three units and to the millisecond: ``"250ms"``, ``"1m30s"``, ``"2d4h"``.

    ``parse_duration`` reads it back (a negative one, which only a difference can be, it does not).
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.001:
        return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    rest = round(seconds * 1000)
    if rest >= 60_000:
        rest = round(seconds) * 1000  # nobody wants the milliseconds of minutes
    parts = []
    for unit, scale in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, rest = divmod(rest, scale)
        if count:
            parts.append(f"{count}{unit}")
    if rest and not parts and rest < 1000:
        return f"{rest}ms"
    if rest:
        parts.append(f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts[:3])


def fine_duration(seconds: float) -> str:
    """As ``rough_duration``, with a tenth of a millisecond where it is less than ten: how long a request takes."""
    return rough_duration(seconds) if seconds >= 0.01 else format_duration(round(seconds, 4))


def rough_duration(seconds: float) -> str:
    """The same, as far as anybody wants to know it of time that passes: ``"12ms"``, ``"1.2s"``, ``"42s"``, ``"2h5m"``."""
    if seconds < 0:
        return "-" + rough_duration(-seconds)
    if seconds < 0.0005:
        return "0ms"
    if seconds < 9.95:
        return format_duration(round(seconds, 3 if seconds < 0.9995 else 1))
    whole = round(seconds)
    return format_duration(whole if whole < 3600 else whole // 60 * 60 if whole < 86400 else whole // 3600 * 3600)


def format_size(size: int) -> str:
    """``size`` bytes for people, one decimal where it is not whole: ``"512M"``, ``"1.5G"``, ``"700"``."""
    if size < 0:
        return "-" + format_size(-size)
    scale, unit = 1, ""
    for unit_of, bytes_of in zip("KMGT", (1024, 1024**2, 1024**3, 1024**4), strict=True):
        # What would round to 1024.0 of the smaller unit is 1 of the larger.
        if size < bytes_of - bytes_of // 2048:
            break
        scale, unit = bytes_of, unit_of
    if scale == 1:
        return str(size)
    return f"{size / scale:.1f}".removesuffix(".0") + unit


def shown(value: object) -> str:
    """``value`` for an error message, written as TOML and JSON write it, shortened when it is long."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = '"' + value.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"' if _odd(value) else f'"{value}"'
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "an array" if value else "an empty array"
    elif isinstance(value, int) and abs(value) >= 10**20:
        text = "a number of more than 20 digits"
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:76] + '..."'


def _odd(text: str) -> bool:
    return '"' in text or not text.isprintable()
