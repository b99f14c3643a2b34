"""What the engine is told (events) and what it orders (effects): values only.

What must live here: the complete list of both.
What this file must not know: who tells, who carries out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd import model
from rocksyd.config import Config
from rocksyd.errors import RequestError
from rocksyd.model import Run

# --- events -----------------------------------------------------------------------------------------------------------
# What callers order of a run is in the vocabulary, because every dialect says it as it is.
Past = model.Past
Submit = model.Submit
Terminate = model.Terminate
Free = model.Free
Retry = model.Retry
Edit = model.Edit


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
    key: str = ""
    """As the scoreboard has it: the run that it is at; "" for none, and where it can be at several."""
    since: float = 0.0
    """As the scoreboard has it: CLOCK_MONOTONIC seconds since which it is at that."""
    deadline: float = 0.0
    """As the scoreboard has it: that of the run."""


class InventoryDone(NamedTuple):
    """The inventories of this generation's zygote and templates are complete: what they did not name is gone."""

    app: str
    generation: int


class Heard(NamedTuple):
    """A worker says one of the messages that are a worker's: RESULT, FINISHED, PROGRESS, IDLE, HOLDING."""

    worker: int
    message: Any


class HeardZygote(NamedTuple):
    """A zygote or template says one of these: READY (from now on it is forked from), FORKED, FORK_FAILED, MEASURED."""

    app: str
    generation: int
    template: int
    """The number of the worker that it was; 0 for a zygote."""
    message: Any

    @property
    def worker(self) -> int:
        """The worker that it speaks of; 0 for none."""
        return int(getattr(self.message, "worker", 0))


class ZygoteGone(NamedTuple):
    """A zygote or template died, or never became one: what it had promised to fork never comes. Its workers live on."""

    app: str
    generation: int
    template: int = 0
    reason: str = ""


class WorkerSpokeNonsense(NamedTuple):
    """A worker has said what none of this version's would say: its job has written on the channel, and nothing it says counts."""

    worker: int
    reason: str
    said: bool = False
    """Whether it has: else a fault of the master's own was met with it."""


class RunBroken(NamedTuple):
    """The master has met a fault of its own while it dealt with a run, which ends with that reason."""

    key: str
    reason: str


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


class Crashed(NamedTuple):
    """A worker that runs no jobs has ended, with this ``status``: it counts among those that crash the interpreter."""

    app: str
    generation: int
    status: int | None


class GaugesSaid(NamedTuple):
    """A worker that runs no jobs has said these of its application with ``rocksyd.gauge``, by name."""

    app: str
    values: dict[str, float]


class WorkersMeasured(NamedTuple):
    """The answer to MeasureWorkers: what the workers of this pool have, by their numbers; those that are gone are left out."""

    pool: str
    sizes: dict[int, Size]


class Tick(NamedTuple):
    """A deadline may have passed."""


class ClockSet(NamedTuple):
    """The wall clock was set, or the machine has slept: what waits for a time of it may be due."""


class Configure(NamedTuple):
    """Other settings hold from now on."""

    config: Config


class Drain(NamedTuple):
    """Accept no more runs; ``stop``: begin to end the running ones too."""

    stop: bool = False


class Undrain(NamedTuple):
    """Accept runs again."""


class PutFlag(NamedTuple):
    """A flag holds from now on (``core.flags``)."""

    row: dict[str, Any]


class DropFlag(NamedTuple):
    """It does no longer."""

    name: str


# --- effects ----------------------------------------------------------------------------------------------------------
class Persist(NamedTuple):
    """The journal must hold this run as it is at the end of the turn."""

    run: Run


class PersistRow(NamedTuple):
    """The journal is to hold this of something other than a run before anything else of this step is done."""

    table: str
    """One that the journal declares."""
    key: str
    row: Any
    """Plain data; None: the journal is to hold it no longer."""


class Erase(NamedTuple):
    """The journal and the output of this run are not needed any more."""

    run: Run


class Answer(NamedTuple):
    """To the caller behind ``ticket``: the run, or why not."""

    ticket: int
    run: Run | None = None
    error: RequestError | None = None
    known: str = ""
    """The key of a tick that was run, and whose run is forgotten."""


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
    """Let the idle worker become a template, which says ``before`` again when it is READY."""

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
    soft: bool = False
    """TERM because of a deadline, which the worker raises as ``JobTimeout`` in the run's code."""


class CancelRun(NamedTuple):
    """Tell the worker, which the run shares with others, to end this one; ``run.attempt.kill_reason`` says why."""

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


class MeasureWorkers(NamedTuple):
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


class FlagEnded(NamedTuple):
    """A flag has ended by itself."""

    row: dict[str, Any]


class Note(NamedTuple):
    """A line for the log."""

    text: str
