"""What the choreography can decide. Values only: somebody else carries them out."""

from __future__ import annotations

from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StartMaster(Value):
    """Spawn a master and call it ``master``; it becomes the candidate."""

    master: int


class SendPrepare(Value):
    """Send PREPARE and everything on the shelf."""

    master: int
    cause: str
    reason: str
    crashes: int
    stopping: bool = False


class Send(Value):
    """Send a message that needs nothing of the keeper's own."""

    master: int
    message: Any


class SendAdopt(Value):
    """Send ADOPT, with the snapshot that FROZEN brought if ``snapshot``."""

    master: int
    snapshot: bool


class Promote(Value):
    """``master`` serves: its descriptors and children are the service's now, and it is told of every exit."""

    master: int


class Discard(Value):
    """``master`` is dead and never served: end the children it spawned, drop what it shelved."""

    master: int


class LoseServing(Value):
    """The serving ``master`` died."""

    master: int
    how: str


class Kill(Value):
    """SIGKILL to ``master``."""

    master: int


class Bury(Value):
    """``master`` does not die of SIGKILL: read its channel to the end and take it for dead."""

    master: int


class DropBusyConnections(Value):
    """Take the connections that were in the middle of something off the shelf: one of them may be what kills masters."""


class CheckCode(Value):
    """Look whether the keeper's own code on disk has changed."""


class Reloading(Value):
    """Tell the service manager that a restart begins."""

    text: str


class Serves(Value):
    """Tell the service manager that a master serves (again)."""

    generation: int
    text: str


class Stop(Value):
    """End every child and exit with ``status``."""

    status: int
    reason: str
    orderly: bool = False
    """A master finished its work first, so little is left."""
    now: bool = False
    """Somebody insists: a short grace."""
    failed: bool = False
    """The service never came up."""


class Log(Value):
    """Write one line."""

    text: str


Effect = (
    StartMaster
    | SendPrepare
    | Send
    | SendAdopt
    | Promote
    | Discard
    | LoseServing
    | Kill
    | Bury
    | DropBusyConnections
    | CheckCode
    | Reloading
    | Serves
    | Stop
    | Log
)
