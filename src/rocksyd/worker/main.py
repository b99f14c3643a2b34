"""A worker: a fork of the loaded application that is given orders, one after another, until it is told or bound to leave.

What must live here: the loop. What this file must not know: how a run of any kind is served (the table of kinds names the module
that does), or what is said of it.
"""

from __future__ import annotations

import os
from importlib import import_module

from rocksyd import kinds, messages
from rocksyd.posix.channel import Channel
from rocksyd.worker import leaving, output, results
from rocksyd.worker.context import Context
from rocksyd.worker.conversation import Conversation
from rocksyd.worker.seat import Seat

_DRAIN_GRACE = 10.0
_SERVING = {kind.name: import_module(kind.worker).Serving for kind in kinds.KINDS.values()}
"""Loaded in the zygote, so that no worker has to."""


class Worker:
    """One worker's life, from its fork to ``os._exit``."""

    def __init__(self, context: Context, number: int, channel: Channel, seat: Seat) -> None:
        self._seat = seat
        self._master = Conversation(channel, number)
        self._by_kind = {name: serving(context, seat, self._master) for name, serving in _SERVING.items()}

    def serve(self) -> messages.Promote:
        """Run jobs until told or bound to leave. Returns only when this process is to be a worker no longer, and never raises."""
        try:
            if not self._master.expected:
                self._by_kind[kinds.JOB.name].rehearse()
            self._seat.at("idle")
            while True:
                order = self._master.next()
                if order is None:
                    leaving.finish(_DRAIN_GRACE)
                    os._exit(self._master.status)
                if isinstance(order, messages.Promote):
                    self._master.close()
                    return order
                serving = self._by_kind.get(order.kind)
                if serving is not None:
                    serving.serve(order)
                else:
                    self._refuse(order)
                self._seat.at("idle")
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's code below this frame)
            output.write("rocksyd: a worker failed, please report this:\n" + results.traceback_of(error))
            os._exit(70)

    def _refuse(self, order: messages.Job) -> None:
        """A newer master's order for work of a kind that nobody here serves."""
        error = {"type": "JobError", "message": kinds.unknown(order.kind), "traceback": ""}
        result = messages.Result(order.key, ok=False, retcode=1, error=error, next_acks=not order.last)
        self._master.say(result)
        self._master.await_ack(result)
        if order.last:
            os._exit(0)
