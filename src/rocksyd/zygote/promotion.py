"""A worker that becomes a template: a zygote that has not loaded its application but inherited it, warmed up by jobs.

What must live here: what makes such a process fit for forking, and what ends it. What this file must not know: when that pays
(``core.refork``), and how workers are forked (``zygote.server``).

The model is pitchfork's "reforking": https://github.com/Shopify/pitchfork/blob/master/docs/REFORKING.md. There a worker
forks the new mold; here it becomes it, so that nobody shares what it has open: to close it breaks it for no other.
"""

from __future__ import annotations

import gc
import os
import time
from typing import NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed
from rocksyd.posix.channel import Channel
from rocksyd.posix.titles import set_title
from rocksyd.worker import inherited, leaving, output
from rocksyd.worker.integrations import registry
from rocksyd.zygote import hugepages, privileges, processes, safety
from rocksyd.zygote.loading import Loaded, LoadFailed, before_fork_steps, failing

_LEAVE_GRACE = 5.0
"""Seconds that the application's own ``atexit`` handlers get when a zygote ends."""


# --- in the zygote --------------------------------------------------------------------------------------------------------
def pass_on(order: messages.Promote, masters_end: int) -> None:
    """Tell the worker, over the master's end of its channel, which is closed: nobody speaks to it as a worker any more."""
    channel = Channel.from_fd(masters_end)
    try:
        channel.send(order._replace(fds=(order.fds[0], 2)))
    except ChannelClosed:
        return  # it has ended, and is about to be reaped
    finally:
        channel.close()


# --- in the worker --------------------------------------------------------------------------------------------------------
def take_channel(order: messages.Promote) -> Channel:
    """The template's channel. Standard output and error are the daemon's log again."""
    channel, log = order.fds
    output.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return Channel.from_fd(channel)


def prepare(order: messages.Promote, pool: str, loaded: Loaded, channel: Channel) -> Loaded:
    """Make this process fit for being forked from: close what workers must not share, see that nothing is left of it.

    Raises:
        LoadFailed: it cannot be; nothing else is raised.
    """
    began = time.monotonic()
    ready = loaded.ready
    set_title(f"rocksyd: zygote {ready.app}@{ready.generation} {pool} (template)")
    context = loaded.pools.get(pool, loaded.context)
    if context.whom is not None and loaded.groups.there:
        raise LoadFailed("the pool runs as a user of its own, who may not make control groups for workers; remove refork_after")
    loaded.groups.come_back()
    privileges.raise_open_files()
    gc.disable()
    for step, act in before_fork_steps():
        with failing(step, os.getpid(), "failed"):
            act()
    problems = safety.left_over({channel.fileno()})
    if problems:
        raise LoadFailed("; ".join(problems) + ". " + safety.CURE_OF_TEMPLATES)
    os.chdir(loaded.context.cwd)
    inherited.prepare()
    registry.prepare()
    output.flush()
    gc.collect()  # what jobs have left behind in circles would be every worker's for good
    gc.freeze()
    # What this process has become as a worker, its children are already; most of it only root may do twice.
    inherited_by_all = context._replace(whom=None, nice=None, cpus=frozenset(), oom_score_adj=None)
    return loaded._replace(
        pools={pool: inherited_by_all},
        ready=messages.Ready(
            app=ready.app,
            generation=ready.generation,
            pid=os.getpid(),
            seconds=round(time.monotonic() - began, 6),
            memory=hugepages.memory().resident,
            template=order.worker,
            pool=pool,
            private=processes.private_memory(os.getpid()),
            before=order.before,
        ),
    )


def give_up() -> NoReturn:
    """The end of a process that is neither a worker nor a template."""
    leaving.finish(_LEAVE_GRACE)
    os._exit(0)


def leave(status: int) -> NoReturn:
    """The end of a zygote, with what the application relies on at its end: temporary folders go, logs are flushed."""
    inherited.take_back()
    registry.take_back()
    leaving.finish(_LEAVE_GRACE)
    os._exit(status)
