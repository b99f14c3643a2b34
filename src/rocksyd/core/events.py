"""What the engine is told (events) and what it orders (effects): values only.

What must live here: the complete list of both.
What this file must not know: who tells, who carries out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.config import Config
from rocksyd.errors import RequestError
from rocksyd.model import Run


# --- events -----------------------------------------------------------------------------------------------------------
class Submit(NamedTuple):
    """A caller orders a run. Answered by ANSWER(ticket)."""

    ticket: int
    key: str
    target: str
    params: Any = None
    app: str | None = None
    options: dict[str, Any] = {}
    typed: bool = False
    """Whether the parameters are held against the job's signature (JSON-RPC); if not, Python does it when the job is called."""
    kind: str = ""
    """``script`` for what ``rocksyd exec`` orders: ``target`` is then what is shown, and ``app`` has been chosen."""
    unnamed: bool = False
    """Whether the caller waits for the result and gave no key that it could ask again by."""


class Terminate(NamedTuple):
    """A caller wants a run ended; with another signal than TERM, wants that one delivered to its processes and no more."""

    ticket: int
    key: str
    signal: int = 15


class Free(NamedTuple):
    """A caller does not need the record any more."""

    ticket: int
    key: str


class Retry(NamedTuple):
    """A caller wants an ended run to run again under its key."""

    ticket: int
    key: str


class ZygoteReady(NamedTuple):
    """An application can be forked; from now on new workers come from this generation."""

    app: str
    generation: int
    jobs: dict[str, dict[str, Any]]
    allowed: tuple[str, ...] = ()
    open_patterns: tuple[str, ...] = ()


class ZygoteGone(NamedTuple):
    """A zygote died: it forks no more, what it had promised to fork never comes. Its workers live on."""

    app: str
    generation: int


class WorkerForked(NamedTuple):
    """A worker lives and waits for a job."""

    worker: int
    pid: int


class WorkerRefused(NamedTuple):
    """The zygote could not fork."""

    worker: int
    reason: str


class WorkerFound(NamedTuple):
    """A zygote's inventory names this worker (after a crash of the master)."""

    worker: int
    pid: int
    pool: str
    slot: int
    app: str
    generation: int
    jobs: int = 0
    """As the scoreboard has it: jobs done."""
    born: float = 0.0
    """As the scoreboard has it: CLOCK_MONOTONIC seconds of its fork; 0 where that is not known."""
    template: int = 0
    """Who forked it: a template, by its number; 0 for the zygote."""
    capacity: int = 1
    """As the scoreboard has it: runs that it can be at at the same time."""


class TemplateReady(NamedTuple):
    """A worker has become a template: workers of its pool can be forked from it."""

    app: str
    generation: int
    pool: str
    template: int
    before: int
    """Bytes that warm workers had for themselves before."""
    cost: int
    """Bytes that the template has for itself."""


class TemplateGone(NamedTuple):
    """A template ended, or a worker could not become one. Its workers live on."""

    app: str
    generation: int
    template: int
    reason: str


class PoolMeasured(NamedTuple):
    """The answer to MeasurePool: bytes that workers have for themselves, by number."""

    app: str
    generation: int
    template: int
    pool: str
    sizes: dict[int, int]


class InventoryDone(NamedTuple):
    """The inventories of this generation's zygote and templates are complete: what they did not name is gone."""

    app: str
    generation: int


class WorkerIdle(NamedTuple):
    """A worker answers AskWorker of this ``epoch``: it has no job and holds no result, but for those in ``holds``."""

    worker: int
    epoch: int
    holds: tuple[str, ...] = ()
    """Keys; only of a worker that runs share."""


class WorkerProgress(NamedTuple):
    """A job says how far it is."""

    worker: int
    key: str
    progress: dict[str, Any]


class WorkerFinished(NamedTuple):
    """A job has answered its caller, and goes on."""

    worker: int
    key: str
    value: Any = None
    dropped: str = ""
    """Why there is no value although the job gave one."""


class WorkerResult(NamedTuple):
    """A run has ended by itself."""

    worker: int
    key: str
    ok: bool
    retcode: int
    value: Any = None
    error: dict[str, Any] | None = None
    cpu: float = 0.0
    max_rss: int = 0
    signal: int = 0
    reason: str = ""
    """The limit that the worker itself knows to have ended it."""
    dropped: str = ""
    """Why there is no value although the job returned one."""
    silent: bool = False
    """Whether the worker knows that nothing was printed."""


class WorkerExited(NamedTuple):
    """A worker's process has ended; ``status`` is as ``waitpid`` gives it, None when nobody can know it."""

    worker: int
    status: int | None
    cpu: float = 0.0
    max_rss: int = 0
    unread: bool = False
    """It had not begun the job it was given (none of them, where it was given several)."""
    unborn: bool = False
    """It had not even come to look for one: whatever it died of, a job was not the reason."""
    untold: tuple[str, ...] = ()
    """Keys of runs that it was about to be given: it has not begun these, whatever it did."""
    oom: bool = False
    """The kernel says that it killed it for want of memory."""


class Size(NamedTuple):
    """What memory a worker has, in bytes."""

    rss: int
    """All that is resident."""
    pss: int = 0
    """The same with each page divided by the number of processes that share it; 0 where nobody looked."""


class Measured(NamedTuple):
    """The answer to Measure: what the workers of this pool have, by their numbers; those that are gone are left out."""

    pool: str
    sizes: dict[int, Size]


class Tick(NamedTuple):
    """A deadline may have passed."""


class Configure(NamedTuple):
    """Other settings hold from now on."""

    config: Config


class Drain(NamedTuple):
    """Accept no more runs; ``stop``: begin to end the running ones too."""

    stop: bool = False


class Undrain(NamedTuple):
    """Accept runs again."""


# --- effects ----------------------------------------------------------------------------------------------------------
class Persist(NamedTuple):
    """The journal must hold this run as it is at the end of the turn."""

    run: Run


class Erase(NamedTuple):
    """The journal and the output of this run are not needed any more."""

    run: Run


class Answer(NamedTuple):
    """To the caller behind ``ticket``: the run, or why not."""

    ticket: int
    run: Run | None = None
    error: RequestError | None = None


class ForkWorker(NamedTuple):
    """Ask the zygote of this generation for a worker."""

    app: str
    generation: int
    pool: str
    worker: int
    slot: int
    template: int = 0
    """Ask this template instead of the zygote."""
    capacity: int = 1
    """Runs that it is to be at at the same time."""


class MeasurePool(NamedTuple):
    """Have the zygote, or a template, look at the memory of its workers in this pool."""

    app: str
    generation: int
    template: int
    pool: str


class PromoteWorker(NamedTuple):
    """Let the idle worker become a template; ``before`` is kept for it (``TemplateReady``)."""

    app: str
    generation: int
    worker: int
    before: int


class RetireTemplate(NamedTuple):
    """This template forks no more."""

    app: str
    generation: int
    template: int


class StartJob(NamedTuple):
    """Give the run to the worker; ``last``: the worker leaves after it."""

    worker: int
    run: Run
    last: bool


class AckResult(NamedTuple):
    """Tell the worker that its result is safe."""

    worker: int
    key: str


class AskWorker(NamedTuple):
    """Ask a worker that a crash made uncertain what it holds; its answer repeats ``epoch``."""

    worker: int
    epoch: int


class KillWorker(NamedTuple):
    """Send a signal to the worker's process group."""

    worker: int
    number: int
    grace: float = 10.0


class CancelRun(NamedTuple):
    """Tell the worker, which the run shares with others, to end this one; ``run.kill_reason`` says why."""

    worker: int
    run: Run


class DrainWorker(NamedTuple):
    """Tell an idle worker to leave."""

    worker: int


class RetireZygote(NamedTuple):
    """This generation forks no more."""

    app: str
    generation: int


class LoadAfresh(NamedTuple):
    """The memory of this application may be spoilt: load it again beside the zygote that serves, and serve from the new one."""

    app: str
    reason: str


class Started(NamedTuple):
    """Tell whoever watches: the run has been given to a worker."""

    run: Run


class Measure(NamedTuple):
    """Look how much memory these workers, (number, pid), have, and how much of it is worker ``share``'s own (0: nobody's)."""

    pool: str
    workers: tuple[tuple[int, int], ...]
    share: int = 0


class Slow(NamedTuple):
    """Write down what the run is at: it takes long."""

    run: Run


class Progressed(NamedTuple):
    """Tell whoever watches: the run is further."""

    run: Run


class Answered(NamedTuple):
    """Tell whoever called: the run has its result, though it has not ended."""

    run: Run


class Ended(NamedTuple):
    """Tell whoever waits: the run has ended."""

    run: Run


class Note(NamedTuple):
    """A line for the log."""

    text: str
