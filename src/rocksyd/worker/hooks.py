"""The application's hooks around every job.

What must live here: their order, and what becomes of their exceptions.
What this file must not know: messages, how a job is called.
"""

from __future__ import annotations

from rocksyd.jobs import after_job_hooks, before_job_hooks
from rocksyd.worker import output, results


def present() -> bool:
    """Whether there is any: most applications have none, and pay nothing."""
    return bool(before_job_hooks or after_job_hooks)


def before_job() -> None:
    """Call them in the order of their declaration. Raises what they raise: that fails the run."""
    for hook in before_job_hooks:
        hook()


def after_job() -> None:
    """Call them, the last declared first. What one raises is printed, and the others are called all the same."""
    for hook in reversed(after_job_hooks):
        try:
            hook()
        except BaseException as error:  # noqa: BLE001  (sys.exit in a hook is no more the run's end than any other exception)
            name = f"{getattr(hook, '__module__', '?')}:{getattr(hook, '__qualname__', hook)}"
            output.write(f"rocksyd: the after_job hook {name} failed:\n{results.traceback_of(error)}")
