"""Everything said between rocksyd's processes, in one list.

What must live here: the messages as frozen values, and their one encoding (JSON, descriptors beside it).
What this file must not know: sockets, descriptors' meaning, who is connected to whom.

A message is one ``SOCK_SEQPACKET`` datagram: a JSON array ``[NAME, {field: value, ...}]``. A field called ``fds`` is never
part of the JSON: its descriptors travel as ``SCM_RIGHTS`` ancillary data in the same order. Two versions of rocksyd talk to
each other during every deploy, so unknown fields are ignored and missing ones take their default; a field is never renamed.
The annotation of a field is its type on the wire as well: workers and zygotes run an application's code, which may say anything.

``Value`` and neither ``NamedTuple`` nor ``dataclass``: the keeper must stay small.
"""

from __future__ import annotations

import json

from rocksyd.bounds import RESULT
from rocksyd.errors import MessageError
from rocksyd.shapes import MAX_INSIDE, deeper_than, shape_of
from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = Any  # a value that JSON can carry
    Failure = dict[str, Any]  # of a certain shape: rocksyd.shapes

NOTHING_RUN = 83
"""Exit status of an idle worker whose channel has ended. It decides nothing, since a job may exit with it as well: whether a
worker had begun its run stands on the scoreboard."""


# --- master -> keeper -------------------------------------------------------------------------------------------------
class Hello(Value):
    """A new master has imported everything it needs; said again when it has read how long it may take."""

    pid: int = 0
    version: str = ""
    prepare_timeout: float = 120.0
    """Seconds the keeper waits for PREPARED before it calls the preparation failed."""
    adopt_timeout: float = 10.0
    """Seconds the keeper waits for ADOPTED (and for the old master's FROZEN)."""
    more: bool = False
    """Said again when the configuration has been read; until then the time that was given for HELLO holds, counted anew."""


class Prepared(Value):
    """The new master has read its configuration, has its zygotes READY, and can take over at once."""

    generation: int = 0


class PrepareFailed(Value):
    """The new master cannot serve; ``reason`` is for the person who ordered the restart."""

    reason: str = ""


class Shelve(Value):
    """Keep these descriptors, one name each; a name given again replaces the descriptor kept under it."""

    names: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()


class Unshelve(Value):
    """Close the descriptors kept under these names (unknown names are ignored)."""

    names: tuple[str, ...] = ()


class Spawn(Value):
    """Start a child of the keeper. Descriptor ``fds[i]`` becomes number ``3 + i`` in it; 0-2 are the keeper's own."""

    name: str = ""
    """Unique among the living children, for example ``zygote:shop@7``; EXITED repeats it."""
    argv: tuple[str, ...] = ()
    env: dict[str, str] | None = None
    """The child's whole environment; None means the keeper's own."""
    cwd: str = ""
    fds: tuple[int, ...] = ()


class Signal(Value):
    """Send signal ``number`` to ``pid`` (its process group if ``group``), if it is a child of the keeper not yet reaped."""

    pid: int = 0
    number: int = 15
    group: bool = False


class ExitAck(Value):
    """The exit statuses of these PIDs are in the journal and may be forgotten (to keeper and to zygote)."""

    pids: tuple[int, ...] = ()


class Restart(Value):
    """Start a new master beside this one and hand over. Answered by FREEZE or RESTART_FAILED."""

    reason: str = ""
    hello_timeout: float = 30.0


class Frozen(Value):
    """The old master reads and writes nothing any more. ``fds[0]`` is the sealed snapshot, ``fds[1:]`` match ``names``.

    With more descriptors than one datagram takes, the rest is sent in SHELVE messages before this one.
    """

    names: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()
    since: float = 0.0
    """From a service worker: since when it handles no message (CLOCK_MONOTONIC seconds); 0: it does not say."""


class Adopted(Value):
    """The new master serves. Up to here it has read no client and written nothing: the point of no return."""

    generation: int = 0
    status: str = ""


class Refused(Value):
    """The new master will not take this snapshot or these descriptors, and leaves; the old one is to go on."""

    reason: str = ""


class Stopped(Value):
    """The orderly stop is done; the keeper ends what is left and exits with ``status``."""

    status: int = 0
    reason: str = ""


class Status(Value):
    """One line for the service manager (``STATUS=``); ``stopping`` and ``alive`` map to STOPPING=1 and WATCHDOG=1."""

    text: str = ""
    stopping: bool = False
    alive: bool = False


# --- keeper -> master -------------------------------------------------------------------------------------------------
class Prepare(Value):
    """The first message to a new master: why it was started, and how much is coming."""

    cause: str = "start"
    """``start`` (nothing to take over), ``restart`` (a master is serving) or ``crash`` (the last one died)."""
    reason: str = ""
    """For ``crash``: how the last master ended, for the log and the audit record."""
    config: str = ""
    """Absolute path of ``rocksyd.toml``."""
    shelf: tuple[str, ...] = ()
    """Names on the shelf now; FDS messages with exactly these follow."""
    crashes: int = 0
    """How many masters in a row died young."""
    watchdog: float = 0.0
    """Seconds between the WATCHDOG=1 the service manager wants; 0 when it wants none."""
    children: dict[str, int] = {}
    """Living children of the keeper, name -> PID, masters left out."""
    stopping: bool = False
    """The master that died had begun to stop the service: go on with that."""


class Fds(Value):
    """Duplicates of shelf descriptors. Sent in batches; also for what is shelved while a new master prepares."""

    names: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()


class Unshelved(Value):
    """Told to a preparing master: the serving one took these names off the shelf.

    Told to the serving master: there was no room for these, so they do not outlive it and travel with FROZEN.
    """

    names: tuple[str, ...] = ()


class Freeze(Value):
    """Stop reading, finish the turn, close the journal, answer FROZEN."""


class Thaw(Value):
    """The new master failed: go on as if nothing had been."""

    reason: str = ""


class Adopt(Value):
    """Take over. ``fds[0]`` is the snapshot; after a crash there is none."""

    fds: tuple[int, ...] = ()


class Retired(Value):
    """Another master serves; this one exits at once and touches nothing."""


class Exited(Value):
    """A process ended. Repeated until EXIT_ACK. ``status`` is as ``os.waitpid`` gives it."""

    pid: int = 0
    status: int = 0
    name: str = ""
    """Keeper: the child's name, or "" for one it inherited. Zygote: "" """
    worker: int = 0
    """Zygote: the worker's number. Keeper: 0."""
    cpu: float = 0.0
    max_rss: int = 0
    """Bytes."""
    oom: bool = False
    """The kernel says that it killed it for want of memory."""


class Spawned(Value):
    """Answer to SPAWN: ``pid`` of the new child, or 0 and the reason."""

    name: str = ""
    pid: int = 0
    reason: str = ""


class Signalled(Value):
    """The service's PID got this signal."""

    number: int = 0


class RestartFailed(Value):
    """The ordered restart did not come about and nothing has changed."""

    reason: str = ""


# --- master -> zygote -------------------------------------------------------------------------------------------------
class Load(Value):
    """The first message to a zygote: what to import. ``settings`` is the application's part of the configuration."""

    app: str = ""
    generation: int = 0
    path: str = ""
    preload: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    env: dict[str, str] = {}
    settings: dict[str, Json] = {}
    """``unsafe`` (``refuse`` | ``warn``), ``huge_pages`` (bool), ``grace`` (seconds), ``umask`` (int), ``cwd`` ...;
    ``signals`` (bool): workers catch the daemon's own two signals; ``cgroup``: the folder to make control groups in;
    ``pools``: by pool id, the settings of workers that differ from pool to pool."""
    fds: tuple[int, ...] = ()
    """``fds[0]`` is the scoreboard."""


class Fork(Value):
    """Fork a worker; answered by FORKED or FORK_FAILED."""

    worker: int = 0
    """Number of the worker, never given twice in a service's life."""
    pool: str = ""
    slot: int = -1
    concurrency: int = 1
    """Jobs that it is to be at at the same time; more than one only for ``async def``."""
    kind: str = ""
    """The kind of work that a worker is forked for which takes its work itself (``kinds``: ``stays``); "" for all others."""


class Kill(Value):
    """Send ``number`` to the process group of the worker ``pid``, if the zygote has not reaped it.

    After TERM and KILL the zygote sees to it that nothing of the group is left; any other signal is only delivered.
    """

    pid: int = 0
    number: int = 15
    grace: float = 10.0
    """Seconds after the leader's death until what is left of its process group is killed."""
    soft: bool = False
    """TERM because of a deadline: a worker that raises ``JobTimeout`` in its job is left to do that, and the rest of its group
    gets TERM when it has ended. Any other gets TERM now, as from a zygote that does not know this field."""


class PrintStacks(Value):
    """Let the worker ``pid`` print the stacks of its threads, where its standard error goes; asked of one that can."""

    pid: int = 0
    in_c: bool = False
    """Its interpreter does not come to it: the stack of its main thread alone, printed by C code."""


class Retire(Value):
    """Fork no more; exit when the last worker has been reaped and acknowledged."""


class Promote(Value):
    """Let an idle worker become a template: a zygote for the next workers of its pool, with all that its jobs have warmed up.

    The zygote passes it on to the worker, which from then on is none. What follows comes over the template's own channel:
    READY or FAILED, and then all that a zygote says.
    """

    worker: int = 0
    """Number of the worker; the template's from now on."""
    pid: int = 0
    before: int = 0
    """READY of the template repeats it: bytes that were each warmed worker's alone before there was a template."""
    fds: tuple[int, ...] = ()
    """``fds[0]`` is the template's end of its channel; from zygote to worker also: ``fds[1]``, the daemon's log."""


class Measure(Value):
    """Look how much memory the workers of a pool have for themselves; answered by MEASURED."""

    pool: str = ""


class Inventory(Value):
    """Say again what you hold (to a zygote: READY, WORKERS; to a worker: RESULT or IDLE)."""

    epoch: int = 0
    """IDLE repeats it: an answer that a dead master did not live to hear must not be taken for one to a later question."""


# --- zygote -> master -------------------------------------------------------------------------------------------------
class Ready(Value):
    """The application is loaded and can be forked."""

    app: str = ""
    generation: int = 0
    pid: int = 0
    jobs: dict[str, dict[str, Json]] = {}
    """Short name -> {"target": "shop.jobs:daily", "kind": "function" | "class", "settings": {}, "signature": {}, "doc": "",
    "script": {}}."""
    allowed: tuple[str, ...] = ()
    """Targets that the patterns of ``allow`` were found to name."""
    open_patterns: tuple[str, ...] = ()
    """Patterns of ``allow`` that cannot be listed beforehand (a wildcard in the module's name)."""
    services: dict[str, dict[str, Json]] = {}
    """The services that its code declares and that are served, by name -> {"target", "listen": [address], "state_version"}."""
    seconds: float = 0.0
    memory: int = 0
    """Resident bytes after the preload."""
    huge: int = 0
    """Bytes of it in transparent huge pages."""
    warnings: tuple[str, ...] = ()
    revision: str = ""
    """Of the code that was loaded; "" where nobody knows it."""
    template: int = 0
    """The number of the worker that this was, of a template; 0 of a zygote that has loaded the application itself."""
    pool: str = ""
    """Of a template: whose workers it forks."""
    private: int = 0
    """Of a template: bytes that were its own alone before it forked anybody."""
    before: int = 0
    """Of a template: as PROMOTE said."""


class Failed(Value):
    """The application cannot be loaded; the zygote exits after this."""

    app: str = ""
    generation: int = 0
    reason: str = ""
    traceback: str = ""


class Forked(Value):
    """A worker lives. ``fds[0]`` is the master's end of its channel."""

    worker: int = 0
    pid: int = 0
    pool: str = ""
    slot: int = -1
    fds: tuple[int, ...] = ()


class ForkFailed(Value):
    """``os.fork`` said no."""

    worker: int = 0
    pool: str = ""
    reason: str = ""


class Measured(Value):
    """Answer to MEASURE."""

    pool: str = ""
    workers: tuple[tuple[int, int], ...] = ()
    """(worker, bytes of memory that no other process shares). Workers that could not be looked at are not in it."""


class Workers(Value):
    """Answer to INVENTORY: living workers with the master's end of each channel, exits not yet acknowledged.

    Sent in as many messages as the descriptors need; ``more`` is true on all but the last.
    """

    workers: tuple[tuple[int, int, str, int], ...] = ()
    """(worker, pid, pool, slot) for each descriptor in ``fds``."""
    exits: tuple[tuple[int, int, int, float, int], ...] = ()
    """(worker, pid, status, cpu seconds, max_rss bytes)."""
    oom: tuple[int, ...] = ()
    """Workers in ``exits`` that the kernel killed for want of memory."""
    more: bool = False
    app: str = ""
    generation: int = 0
    fds: tuple[int, ...] = ()


# --- master -> worker -------------------------------------------------------------------------------------------------
class Job(Value):
    """Run this. Sent only to a worker that has room: an idle one, or one that was forked for several at the same time."""

    key: str = ""
    target: str = ""
    """``module:qualified.name``."""
    params: Json = None
    """A list (positional), an object (keyword), or for a class the one argument of its ``run``."""
    attempt: int = 1
    deadline: float = 0.0
    """CLOCK_MONOTONIC seconds at which the run is timed out; 0 for never."""
    log: str = ""
    """Absolute path of the output file, opened append; "" leaves stdio at /dev/null."""
    cwd: str = ""
    env: dict[str, str] = {}
    last: bool = True
    """The worker leaves after this job (``max_jobs`` reached)."""
    title: str = ""
    """What the process title shows."""
    grace: float = 10.0
    """Seconds that non-daemon threads are joined for at the end."""
    result_limit: int = RESULT
    """Bytes of JSON a result value may have."""
    each: bool = False
    """``params`` is a list of such: the target is called for each, the result is the list of what they return."""
    kind: str = ""
    """``script``: run the script that the caller's surroundings name, with the caller's descriptors."""
    spool: str = ""
    """Absolute path of a file of the worker to print into; it is renamed to ``log`` at the end, if there is anything in it."""
    tick: dict[str, Json] | None = None
    """Which tick of a schedule it is (``rocksyd.ticks``)."""
    after: tuple[str, ...] = ()
    """Keys of the runs that it has come after."""
    after_results: bool = False
    """Whether what those returned comes before its params."""
    fds: tuple[int, ...] = ()
    """For a script: surroundings, folder, line to the caller, and those of 0, 1 and 2 that the caller has open. For a job
    whose worker may not open ``log`` itself: the open file."""
    timeout: float = 0.0
    """Seconds, the setting behind ``deadline``: for people."""
    leftover: str = "kill"
    """What becomes of processes that are in its worker's group when that ends normally: ``kill`` or ``keep``."""
    results: str = "strict"
    """What becomes of a result that JSON has no form for: ``strict`` or ``lenient``."""
    lineage: bool = False
    """Whether the classes of an uncaught exception are to be named."""
    traceparent: str = ""
    """The span of whoever ordered it, for OpenTelemetry."""
    request_id: str = ""
    """Of the request while which it was ordered; "" for none."""
    debug: bool = False
    """Whether what it logs is to be in its output from DEBUG on."""


class JobAck(Value):
    """RESULT of this run is in the journal."""

    key: str = ""


class Cancel(Value):
    """End this one of the jobs that share the worker: raise ``CancelledError`` in it. One that has ended is ignored."""

    key: str = ""
    reason: str = ""
    """``timeout`` or ``cancelled``."""
    timeout: float = 0.0
    """Seconds, the setting behind a ``timeout``: for people."""


class Drain(Value):
    """Leave: run what ``atexit`` holds and exit. To a companion: answer what was asked, then exit."""


# --- worker -> master -------------------------------------------------------------------------------------------------
class Idle(Value):
    """Answer to INVENTORY from a worker that has no job and holds no result."""

    worker: int = 0
    pid: int = 0
    epoch: int = 0


class Holding(Value):
    """Answer to INVENTORY from a worker that jobs share: ``keys`` are all that it has, or holds the result of.

    It is not IDLE, which a version that knows no such worker would take for having none.
    """

    worker: int = 0
    pid: int = 0
    epoch: int = 0
    keys: tuple[str, ...] = ()
    deadlines: tuple[float, ...] = ()
    """Of those that run, which come first, as JOB said them; 0 for none."""


class Progress(Value):
    """What the job says of itself."""

    key: str = ""
    done: float | None = None
    total: float | None = None
    note: str = ""
    gauges: dict[str, float] = {}
    """What it has said of the application with ``rocksyd.gauge``, by name; with nothing else said it is all there is."""


class Finished(Value):
    """The job has answered its caller and goes on working (``current().finish``); RESULT will say the value again."""

    key: str = ""
    value: Json = None
    dropped: str = ""
    """Why there is no value although the job gave one."""


class Result(Value):
    """The run has ended. Kept by the worker, and said again on INVENTORY, until JOB_ACK."""

    key: str = ""
    ok: bool = True
    retcode: int = 0
    value: Json = None
    error: Failure | None = None
    """``{"type", "message", "traceback"}`` of an uncaught exception, and its ``args`` where they say more than the message."""
    cpu: float = 0.0
    """Seconds of user and system time of the job and the children it waited for."""
    max_rss: int = 0
    """Bytes, the peak of the worker's resident memory."""
    started: float = 0.0
    """CLOCK_MONOTONIC seconds at which the job's code began."""
    ended: float = 0.0
    signal: int = 0
    """The signal that the run counts as ended by: TERM for one that did not catch ``JobTimeout``."""
    reason: str = ""
    """The limit that ended it, as far as the worker knows: ``timeout`` or ``memory``."""
    silent: bool = False
    """Whether it is known that the job printed nothing."""
    next_acks: bool = False
    """Whether the worker takes the next JOB for a JOB_ACK: it is sent when the journal holds this result."""
    dropped: str = ""
    """Why ``value`` is None although the job returned something."""
    again: float | None = None
    """The job asked to be tried again: in how many seconds, -1 for whenever is usual."""
    lineage: tuple[str, ...] = ()
    """The classes of an uncaught exception by name, its own first, where the order asked for them."""
    leaves: bool = False
    """Whether the worker takes no other run, because of what this one has left in it."""


# --- master <-> web worker -------------------------------------------------------------------------------------------
class Serve(Value):
    """The first message to a web worker: what it serves. Answered by SERVING or FAILED."""

    worker: int = 0
    settings: dict[str, Json] = {}
    """The application's ``[apps.NAME.web]``, and what of its pool's settings a worker has to know."""
    listen: tuple[str, ...] = ()
    """The addresses of the listening sockets, as the configuration writes them."""
    smoke: str = ""
    """The path that has to answer 2xx or 3xx before this worker says SERVING; "" for none."""
    fds: tuple[int, ...] = ()
    """The two ends of the pool's queue of kept connections (to put one in, to take one out), then the listening sockets. To a
    service worker: the two ends of the service's line, the page in which each connection says whether it is busy, then these."""


class Serving(Value):
    """A web worker can serve. Also the answer to INVENTORY, and without a descriptor: there is something to be looked at."""

    worker: int = 0
    pid: int = 0
    accepting: bool = False
    leaving: bool = False
    app: str = ""
    fds: tuple[int, ...] = ()
    """``fds[0]`` is the page in which it counts (``posix.webpage``)."""


class Accept(Value):
    """Take connections from now on, new ones and kept ones; of a service those of the worker that serves, too."""

    alone: bool = False
    """To a service worker: nobody serves. It goes on with the connections and the state that were kept, and said before this."""


class Leave(Value):
    """Take none any more, give kept ones to others, finish what was begun, and exit."""

    linger: float = 600.0
    """Seconds that what was begun may take."""
    alone: bool = False
    """Nobody else serves: kept connections are closed instead of given away."""


class Left(Value):
    """A web worker has nothing left to do, and exits."""

    given: int = 0
    """Kept connections that others have got."""
    closed: int = 0
    """Connections that it closed itself, with what was going on over them."""


class SlowRequest(Value):
    """A request takes long, or has had its time and goes on: for the slow log. Said by a web worker."""

    what: str = ""
    """A sentence: which request, and for how long."""
    where: str = ""
    """The stacks of the code that answers it."""


# --- a service worker, with the master and with the one that comes after it --------------------------------------------
class Share(Value):
    """Connections of a service. To the master: keep duplicates, in case this worker dies. To a worker: go on with them."""

    connections: tuple[int, ...] = ()
    """Their numbers, which match ``fds``."""
    fds: tuple[int, ...] = ()


class Unshare(Value):
    """These connections of a service are closed: keep them no longer."""

    connections: tuple[int, ...] = ()


class Checkpoint(Value):
    """The state of a service: a sealed memfd. To the master: keep it. To a worker: it is what there is to go on with."""

    fds: tuple[int, ...] = ()


class Succeed(Value):
    """Over the line of a service, which every worker of it has: whoever serves has a successor, who speaks over ``fds[0]``."""

    fds: tuple[int, ...] = ()


class Rehearse(Value):
    """A successor to the worker that serves: show your state and go on. Answered by CHECKPOINT or REFUSED.

    To hand over it says FREEZE instead. SHARE and FROZEN with the state come back; it says ADOPTED or REFUSED to that, and serves
    when it hears RETIRED. THAW, and the end of the channel before FROZEN, call it off.
    """


# --- master <-> companion ---------------------------------------------------------------------------------------------
class Attend(Value):
    """The first message to a companion: what it is, and what it may use. Answered by ATTENDING or FAILED."""

    name: str = ""
    target: str = ""
    """``module:callable``, which is called with the companion and returns when it has left."""
    path: str = ""
    """A folder to import from before all others; "" for none."""
    address: str = ""
    """Where the daemon can be called, as any client calls it."""
    token: str = ""
    """What to show there; "" for nothing."""
    namespace: str = ""
    """What the names of its methods begin with, up to the dot; "" when it has none."""
    settings: dict[str, Json] = {}
    """Its part of the configuration."""
    listen: tuple[str, ...] = ()
    """The addresses of the listening sockets in ``fds``, in order, as the configuration writes them."""
    fds: tuple[int, ...] = ()


class Attending(Value):
    """The companion can do its work."""

    methods: dict[str, dict[str, Json]] = {}
    """The methods that it adds to the protocol, name -> description as in OpenRPC (``summary``, ``params``, ``result``);
    ``trusted`` (bool): only for the daemon's own user and root."""
    declared: bool = False
    """Whether it wants to be told what the code of the applications declares."""


class Declared(Value):
    """What the code of the applications declares, for a companion. Answered by REPLY; its error says why it will not do."""

    number: int = 0
    """Below 0, so that its answer is no answer to ASK."""
    apps: dict[str, dict[str, Json] | None] = {}
    """Of every application, the scripts by name, each a job's ``script`` in READY; None where nobody has heard of it yet."""
    serves: bool = False
    """Whether this code serves. If not, it is only asked whether it may."""
    author: str = ""
    """Who has ordered what brought it."""


class Ask(Value):
    """A client's request for the companion. Answered by REPLY, in any order."""

    number: int = 0
    """Never given twice in a service's life."""
    method: str = ""
    params: Json = None
    """An object or an array, as the client sent it."""
    trusted: bool = False
    """Whether the client is the daemon's own user or root."""
    address: str = ""
    """The daemon's address that the client came to."""
    who: str = ""
    """Who the client is: a user of this machine, else where it comes from."""


class Reply(Value):
    """Answer to ASK: a result, or an error."""

    number: int = 0
    result: Json = None
    error: dict[str, Json] | None = None
    """``{"code", "message", "data"}``, as JSON-RPC has them."""


_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Hello, Prepared, PrepareFailed, Shelve, Unshelve, Spawn, Signal, ExitAck, Restart, Frozen, Adopted, Refused, Stopped,
        Status, Prepare, Fds, Unshelved, Freeze, Thaw, Adopt, Retired, Exited, Spawned, Signalled, RestartFailed, Load, Fork,
        Kill, PrintStacks, Retire, Promote, Measure, Inventory, Ready, Failed, Forked, ForkFailed, Measured, Workers, Job, JobAck,
        Cancel, Drain, Idle, Holding, Progress, Finished, Result, Attend, Attending, Declared, Ask, Reply,
        Serve, Serving, Accept, Leave, Left, SlowRequest, Share, Unshare, Checkpoint, Succeed, Rehearse,
    )
}  # fmt: skip


_shapes_of = {cls: {field: shape_of(kind) for field, kind in cls._fields.items() if field != "fds"} for cls in _TYPES.values()}
_tuples_of = {
    cls: [name for name in cls._fields if name != "fds" and type(getattr(cls, name)) is tuple] for cls in _TYPES.values()
}
_most_fds = {Adopt: 1, Load: 1, Forked: 1, Promote: 2, Serving: 1, Checkpoint: 1, Succeed: 1}
"""Descriptors that a message may carry, where it is not as many as one likes (the first stand for themselves)."""
_NO_MESSAGE = "not a message between rocksyd's processes"
_write = json.JSONEncoder(separators=(",", ":")).encode  # made once; json.dumps makes one each time it is given separators
_read = json.JSONDecoder().raw_decode


def encode(message: Any) -> tuple[bytes, tuple[int, ...]]:
    """Return the datagram's bytes and the descriptors that go with it. Fields left at their default are not in it."""
    fields = message.__dict__
    fds = ()
    if "fds" in fields:
        fields = {**fields}
        fds = tuple(fields.pop("fds"))
    return _write([type(message).__name__, fields]).encode(), fds


def decode(data: bytes, fds: tuple[int, ...] = (), *, typed: bool = False) -> Any:
    """Return the message in ``data``, or None for a message this version does not know (a newer peer's; ignore it).

    Of ``fds`` it has those that it may carry; the others are still the caller's, to be closed. With ``typed`` each field is held
    against its annotation, as for all that another process says (what a snapshot holds has been heard once already).

    Raises:
        MessageError: the bytes are not a message at all, or a field is not of its type.
    """
    try:
        text = data.decode()
        (name, fields), end = _read(text)
        if end != len(text):
            raise ValueError("more than one value")
        cls = _TYPES.get(name)
        if cls is None:
            return None
        shapes = _shapes_of[cls]
        for unknown in fields.keys() - shapes.keys():
            del fields[unknown]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MessageError(f"{_NO_MESSAGE}: {data[:80]!r}") from error
    if text.count("[") + text.count("{") > MAX_INSIDE and deeper_than(fields, MAX_INSIDE):
        raise MessageError(f"{_NO_MESSAGE}: {name} nests deeper than {MAX_INSIDE} levels")
    if typed:
        for field, value in fields.items():
            shape = shapes[field]
            if type(value) not in shape.plain and not shape.fits(value):
                expected = cls._fields[field]
                raise MessageError(f"{_NO_MESSAGE}: {field} of {name} is {_write(value)[:60]}, and not of type {expected}")
    for field in _tuples_of[cls]:
        value = fields.get(field)
        if isinstance(value, list):
            fields[field] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if "fds" in cls._fields:
        fields["fds"] = fds[: _most_fds.get(cls)]
    message: Any = object.__new__(cls)
    message.__dict__.update(fields)  # what ``__init__`` would look for has been found above
    return message


def known(cls: type[Any], given: dict[str, Json]) -> Any:
    """A message that a snapshot holds as its fields: unknown ones are ignored, missing ones have their default."""
    return decode(json.dumps([cls.__name__, given]).encode())
