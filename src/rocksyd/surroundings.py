"""What a caller of ``rocksyd exec`` has around it, as it is passed to the worker that runs the script in its place.

What must live here: the one encoding, which the compiled launcher writes as well (``launcher/rocksyd-exec.c``).
What this file must not know: descriptors, processes.

Every string ends with a zero byte: the name and version of the format, ``name=value`` fields up to an empty string, as many
arguments as the field ``argc`` says, then the environment up to the end. Unknown fields are ignored and missing ones take their
default, because a launcher may be older or newer than the daemon. Bytes and not text: arguments and environment may be anything.

It travels in a memfd, and the journal never sees it: an environment holds secrets.
"""

FORMAT = b"rocksyd-exec 1"
MOST = 16 << 20
"""Bytes there may be: the kernel takes 6 MiB of arguments and environment (execve(2))."""


class Surroundings:
    """A script's arguments, environment, and what else a process inherits."""

    __slots__ = ("app", "argv", "cwd", "env", "ignored", "key", "opened", "priority", "umask")

    def __init__(self, argv: "list[bytes]", env: "list[bytes]", **fields: str) -> None:
        self.argv = argv
        """What stands behind ``python`` in a command line."""
        self.env = env
        """``NAME=VALUE`` each."""
        self.app = fields.get("app", "")
        self.key = fields.get("key", "")
        self.cwd = fields.get("cwd", "")
        """The folder's path, to find the application by; what is entered is a descriptor."""
        self.umask = fields.get("umask", "18")
        self.opened = fields.get("opened", "012")
        """Which of the descriptors 0, 1 and 2 are open; these are passed, in this order."""
        self.ignored = fields.get("ignored", "")
        """Numbers of signals that the caller ignores (``nohup``), with spaces between."""
        self.priority = fields.get("priority", "0")

    def encode(self) -> bytes:
        """The bytes that ``decode`` reads."""
        names = ("app", "key", "cwd", "umask", "opened", "ignored", "priority")
        fields = [f"{name}={getattr(self, name)}".encode("utf-8", "surrogateescape") for name in names]
        return b"\0".join([FORMAT, *fields, b"argc=%d" % len(self.argv), b"", *self.argv, *self.env, b""])


def decode(data: bytes) -> Surroundings:
    """Read what ``encode`` or the compiled launcher wrote.

    Raises:
        ValueError: it is something else.
    """
    words = data.split(b"\0")
    if words[0] != FORMAT or words[-1] != b"" or b"" not in words[1:-1]:
        raise ValueError("not the surroundings of a caller")
    gap = words.index(b"", 1)
    fields = {}
    for word in words[1:gap]:
        name, _, value = word.decode("utf-8", "surrogateescape").partition("=")
        fields[name] = value
    argc = int(fields.pop("argc", "0"))
    first, last = gap + 1, gap + 1 + argc
    if argc < 0 or last > len(words) - 1:
        raise ValueError("arguments are missing from the surroundings of a caller")
    return Surroundings(words[first:last], words[last:-1], **fields)
