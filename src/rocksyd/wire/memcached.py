"""The memcached text protocol, as much of it as monitoring tools speak: ``stats [words]``, ``version``, ``quit``.

Source: memcached's ``doc/protocol.txt``, "General-purpose statistics" and "Other commands".
"""

from __future__ import annotations

from rocksyd.wire import encode
from rocksyd.wire.requests import Answer, Quit, Stats, Version

COMMANDS = ("stats", "version", "quit")
DIALECT = "1.4.0"
"""Of which memcached this is the text protocol. ``version`` says it: libmemcached takes no answer whose first number is 0."""
_JSON_STARTS = ("{", "[", '"')


def is_command(text: str) -> bool:
    """Whether a line is in this dialect: one of its commands, and no JSON behind it (that would be a classic request)."""
    command, _, argument = text.partition(" ")
    return command.rstrip() in COMMANDS and not argument.lstrip().startswith(_JSON_STARTS)


def parse(text: str) -> Stats | Version | Quit | Answer:
    """The request in a line that ``is_command``."""
    if not text.replace("\t", " ").isprintable():
        return Answer(encode.memcached_error("bad command line format: control characters are not allowed"))
    command, *arguments = text.split()
    if command == "stats":
        return Stats(tuple(arguments))
    if arguments:
        return Answer(encode.memcached_error(f"{command} takes no arguments"))
    return Version() if command == "version" else Quit()
