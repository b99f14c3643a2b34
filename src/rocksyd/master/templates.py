"""What the master says to have a template made, measured and ended.

What must live here: the orders. What this file must not know: why they are given (``core.refork``). What a template tells is
heard where zygotes are heard (``master.children``), because it tells the same.
"""

from __future__ import annotations

import time

from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.master.children import Children, Zygote, zygote_name
from rocksyd.posix.channel import Channel, pair


def promote(children: Children, order: ev.PromoteWorker, timeout: float) -> None:
    """Turn a worker into a template; what comes of it is heard within ``timeout`` seconds.

    Its channel as a template is on the shelf before anybody has the other end, so it is found again whoever dies next.
    """
    zygote = children.zygotes.get(zygote_name(order.app, order.generation))
    link = children.unlink(order.worker)
    if link is None or zygote is None:
        children.heard_of(ev.TemplateGone(order.app, order.generation, order.worker, "its worker or its zygote is gone"))
        return
    ours, theirs = pair()
    template = children.enlist(Zygote(children, order.app, order.generation, Channel(ours)), order.worker, link.pid)
    template.deadline = time.monotonic() + timeout
    children.tell_keeper(m.Shelve((template.name,), (ours.fileno(),)))
    children.tell(zygote, m.Promote(order.worker, link.pid, order.before, (theirs.fileno(),)))
    theirs.close()


def measure(children: Children, order: ev.MeasurePool) -> None:
    """Have a zygote or template look at its workers' memory."""
    zygote = children.zygotes.get(zygote_name(order.app, order.generation, order.template))
    if zygote is not None:
        children.tell(zygote, m.Measure(order.pool))


def retire(children: Children, order: ev.RetireTemplate) -> None:
    """Let a template end when its last job has."""
    template = children.zygotes.get(zygote_name(order.app, order.generation, order.template))
    if template is not None:
        children.retire_one(template)
