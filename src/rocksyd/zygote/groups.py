"""The control groups of an application's workers: one for each, below one for the zygote's generation.

What must live here: which worker has which group, and that a worker without one runs all the same.
What this file must not know: the files of a group (``posix.cgroups``), messages.

To enter a group costs a worker some milliseconds at its fork (6 ms measured: the kernel waits until nobody forks), which
spares spend before anybody waits; so only pools with a limit that needs one have them. A group is what a process cannot leave:
a daemon that a job has started in a session of its own is killed with it.
"""

from __future__ import annotations

import os

from rocksyd.posix import cgroups
from rocksyd.worker import output
from rocksyd.worker.context import Context

_OWN = "zygote"


class Groups:
    """The groups of one zygote's workers; without a folder there are none, and everything here does nothing."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self.removals = cgroups.Removals()
        """Those of workers that have ended."""

    @property
    def controllers(self) -> list[str]:
        """What they can limit."""
        return cgroups.controllers(self._folder) if self._folder else []

    def _of(self, worker: int) -> str:
        return f"{self._folder}/worker-{worker}"

    def join(self, worker: int, context: Context) -> None:
        """In a worker, before anything else: make its group, and go there. It goes without where that fails."""
        if not self._folder or not context.needs_group:
            return
        try:
            cgroups.create(self._of(worker), context.memory, context.processes, context.cpus_most)
            cgroups.enter(self._of(worker))
        except OSError as error:
            output.note(f"worker {worker} runs without a control group: {error}")

    @property
    def there(self) -> bool:
        """Whether workers have groups at all."""
        return bool(self._folder)

    def come_back(self) -> None:
        """In a worker that is one no longer: go to the zygote, where a worker's limits do not hold."""
        if self._folder:
            try:
                cgroups.enter(f"{self._folder}/{_OWN}")
            except OSError as error:
                output.note(f"a template stays in the control group of the worker that it was: {error}")

    def kill(self, worker: int) -> None:
        """End whatever is in the group."""
        if self._folder:
            cgroups.kill(self._of(worker))

    def out_of_memory(self, worker: int) -> bool:
        """Whether the kernel has killed in it for want of memory."""
        return bool(self._folder) and cgroups.oom_kills(self._of(worker)) > 0

    def remove(self, worker: int, now: float) -> None:
        """It has ended. What it has left behind stays, in a group of its own, which is removed when that has ended."""
        if self._folder:
            self.removals.in_passing()
            self.removals.remove(self._of(worker), now)


def prepare(root: str, name: str, owner: tuple[int, int] | None) -> Groups:
    """Make the group of this zygote below ``root``, go into a leaf of it, and give it to ``owner`` (user and group).

    Raises:
        OSError: it cannot be; the message names the file.
    """
    folder = f"{root}/{name}"
    cgroups.create(f"{folder}/{_OWN}")
    cgroups.enter(f"{folder}/{_OWN}")
    cgroups.divide(folder)
    if owner is not None:
        cgroups.give(folder, *owner)
    return Groups(os.path.abspath(folder))


def in_vain(groups: Groups, pools: dict[str, dict[str, object]]) -> list[str]:
    """What the settings of pools ask for that control groups, as far as there are any, cannot do, in sentences."""
    there = groups.controllers
    return [
        f"pool {pool}: {name} has no effect, because no control group with {controller} was delegated to the daemon (see cgroup)"
        for pool, settings in pools.items()
        for name, controller in (("max_processes", "pids"), ("max_cpu", "cpu"))
        if settings.get(name) and controller not in there
    ]
