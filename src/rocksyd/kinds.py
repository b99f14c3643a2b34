"""The kinds of work there are: what is different about a run of each kind, in one table.

What must live here: a row a kind; everybody else asks for a row's property and never compares a kind's name. (A kind's own
files may: the worker module that serves it, and what takes orders for it.)
What this file must not know: how a kind is served.

The name is what is said on the wire and written into the journal, so it is never changed. A name that this version does not know
comes from a newer one; its row is the most careful there is.
"""

from __future__ import annotations

from rocksyd.values import Value


class Kind(Value):
    """One kind of work."""

    name: str = ""
    called: str = "a job"
    """What people call one."""
    worker: str = "rocksyd.worker.job"
    """The module that serves it in a worker, by its class ``Serving``; "" for none."""
    target: str = ""
    """What stands for the target of every run of this kind; "" when callers name one that the application offers."""
    durable: bool = True
    """Whether a run outlasts its caller: then it is still there after a stop of the service or a power failure."""
    retryable: bool = True
    """Whether a run can be begun a second time; if not, what it was ordered with is gone once a worker has had it."""
    again: str = "order it again"
    """What to do instead of a retry, where that is impossible."""
    has_output: bool = True
    """Whether what a run prints goes into a file of its own, in which the daemon may write as well."""
    own_process: bool = False
    """Whether its process serves no other run, neither at the same time nor afterwards."""
    leftover: str = ""
    """What becomes of processes that it leaves in its group, whatever the settings say (``leftover``); "": what they say."""
    stays: bool = False
    """Whether its workers take their work themselves, from sockets, instead of being given runs; then it is nothing to order."""
    soft_timeout: bool = True
    """Whether its code is told of its timeout by ``JobTimeout``; if not, by TERM."""
    logs: bool = True
    """Whether its code uses Python's ``logging`` as the application has set it up, so that its level can be lowered for it."""


JOB = Kind()
SCRIPT = Kind(
    name="script", called="a script", worker="rocksyd.worker.script", target="script",
    durable=False, retryable=False, again="exec it again", has_output=False, own_process=True, leftover="keep",
    soft_timeout=False, logs=False,
)  # fmt: skip

COMMAND = Kind(
    name="command", called="a command", target="rocksyd.worker.command:run", own_process=True, soft_timeout=False, logs=False,
)  # fmt: skip

WEB = Kind(
    name="web", called="a web worker", worker="rocksyd.worker.web.life", durable=False, retryable=False, has_output=False,
    stays=True, logs=False,
)  # fmt: skip

SERVICE = Kind(
    name="service", called="a service worker", worker="rocksyd.worker.service.life", durable=False, retryable=False,
    has_output=False, stays=True,
)  # fmt: skip

KINDS = {kind.name: kind for kind in (JOB, SCRIPT, COMMAND)}
"""Those that a run can be of."""
STAYING = {kind.name: kind for kind in (WEB, SERVICE)}
"""Those whose workers are given no runs; their modules are loaded only where an application has them configured."""


def kind_of(name: str) -> Kind:
    """The row of the kind with this name."""
    return KINDS.get(name) or Kind(
        name=name,
        called=f"work of the kind {name!r}",
        worker="",
        retryable=False,
        own_process=True,
        soft_timeout=False,
        logs=False,
    )


def unknown(name: str) -> str:
    """Why nothing of this kind can be run, "" for a kind that this version knows."""
    if name in KINDS:
        return ""
    return f"this version of rocksyd knows no kind of work called {name!r}: order it again from a version that does"
