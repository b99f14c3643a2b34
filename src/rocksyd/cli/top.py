"""`rocksyd top`: what the daemon does, live on the whole screen; in a pipe once, as text.

What must live here: the loop: keys, signals and news change the state, the state is drawn.
What this file must not know: what is drawn (``top_view``), what keys mean (``top_state``).
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time

from rocksyd.cli.output import json_line, write
from rocksyd.cli.tables import screen
from rocksyd.cli.top_feed import Feed, sample
from rocksyd.cli.top_keys import Keys
from rocksyd.cli.top_state import KeyAction, State
from rocksyd.cli.top_terminal import Terminal
from rocksyd.cli.top_view import frame, still
from rocksyd.client import Client

INTERRUPTED = 130
ANSWER_WITHIN = 10.0
"""Seconds after which the daemon counts as stuck; the screen says so and goes on asking."""
QUIT = KeyAction("quit")


def top(options: argparse.Namespace) -> int:
    """Show what is done, until ``q``; or once, when the output is no terminal."""
    with Client(options.address, timeout=ANSWER_WITHIN, patience=0.0) as client:
        state = State(address=str(client.place.address))
        state.take(sample(client, ended=False))  # a daemon that is not there at all is an error as everywhere
        assert state.sample is not None
        if options.json:
            found = state.sample
            write(json_line({"stats": found.stats, "pools": found.pools, "runs": found.runs}))
            return 0
        if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
            write(still(state, screen(), time.time()))
            return 0
        state.ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        feed = Feed(client, options.interval)
        try:
            feed.start()
            ended_by = _live(state, feed)
        finally:
            feed.close()
    if ended_by in (signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), ended_by)
    return INTERRUPTED if ended_by == signal.SIGINT else 0


def _live(state: State, feed: Feed) -> int:
    """Until the end; returns the signal that ended it, or 0."""
    coloured = screen().coloured
    keys = Keys()
    with Terminal(sys.stdin.fileno(), sys.stdout.fileno(), sys.stdout.encoding or "ascii") as terminal:
        resized = True
        while True:
            try:
                terminal.draw(frame(state, terminal.size(), time.time(), coloured=coloured), anew=resized)
            except OSError:  # the window was closed, and the signal that says so has not been looked at yet
                return signal.SIGHUP
            ready, _, _ = select.select([sys.stdin.fileno(), terminal.signals, feed.readable], [], [], 1.0)
            came = terminal.came()
            resized = signal.SIGWINCH in came or signal.SIGCONT in came
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                if number in came:
                    return number
            if signal.SIGTSTP in came:
                terminal.stop()
            if feed.readable in ready:
                feed.apply(state)
            if sys.stdin.fileno() not in ready:
                continue
            typed = terminal.keys()
            if not typed:
                return signal.SIGHUP
            for key in keys.read(typed):
                order = state.press(key)
                if order == QUIT:
                    return 0
                if order is not None:
                    feed.order(order)
