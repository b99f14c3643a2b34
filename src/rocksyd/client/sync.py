"""The client for ordinary (blocking) code.

    with Client() as client:
        run = client.run("shop.reports:daily", day="2026-01-31")
        record = run.wait()

A restart or a crash of the daemon in the middle of a call is not noticed, except that the answer takes longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn

from rocksyd.client.address import Place, find
from rocksyd.client.conversation import ENDED, FOLLOW, Call, Conversation, Line, follow_calls, pause
from rocksyd.client.link import LinkLost
from rocksyd.client.patience import Patience
from rocksyd.client.protocol import Notification, Reply, order
from rocksyd.client.records import failure, records_of, timed_out
from rocksyd.client.service import wait_gone, watch
from rocksyd.errors import NoDaemon, RequestError, TimedOut

Record = dict[str, Any]
"""What the daemon shows of a run: ``key``, ``state``, ``outcome``, ``retcode`` ..."""

_MARGIN = 1.0
"""Seconds that the answer "not ended in time" may take beyond the time waited for."""


class Client:
    """Calls to one daemon. Threads may share it (each call uses a connection of its own), and so may forks.

    Args:
        address: ``unix://PATH`` or ``tcp://HOST:PORT``; by default ``$ROCKSYD_ADDRESS``, else what the ``rocksyd.toml`` of the
            working folder or above says.
        token: what its ``token_file`` holds; by default ``$ROCKSYD_TOKEN``, else the ``token_file`` of that ``rocksyd.toml``.
            Only for tcp.
        timeout: seconds within which the daemon must answer whatever it can answer at once.
        patience: seconds for which a connection that was lost is tried again.

    Raises:
        AddressError: the address cannot be understood.
        ConfigError: ``rocksyd.toml`` is needed and cannot be read.
        NoDaemon: nothing names a daemon. (That nobody answers is noticed by the first call.)
    """

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout: float = 30.0, patience: float = 30.0
    ) -> None:
        place = find(address)
        if token is not None:
            place = Place(place.address, token, place.config)
        self.place = place
        self.timeout = timeout
        self._line = Line(place, timeout, patience)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next call. The client can still be used; it connects again."""
        self._line.close()

    # --- asking -------------------------------------------------------------------------------------------------------
    def request(self, method: str, params: dict[str, Any] | None = None, *, wait: bool = False) -> Any:
        """Call any method of the protocol and return its result; ``wait``: it may take as long as it likes.

        Raises:
            RequestError: NotFound, InUse, NotAllowed, TooBusy, NotNow, or another error the daemon answers with.
            NoDaemon: nobody answers (in time).
        """
        deadline = None if wait else time.monotonic() + self.timeout
        try:
            (reply,) = self._line.ask([Call(method, params or {})], deadline)
        except TimeoutError:
            self._no_answer(method)
        return _result(reply)

    def _no_answer(self, method: str) -> NoReturn:
        raise NoDaemon(
            f"the daemon at {self.place.address} has not answered {method!r} for {self.timeout:g} s: "
            "it is stuck or overloaded; see its log, or wait longer with timeout="
        ) from None

    def requests(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Call several methods at once and return their results in order. Raises what ``request`` raises, for the first error."""
        results: list[Any] = [None] * len(calls)
        try:
            for reply in self._line.ask([Call(*call) for call in calls], time.monotonic() + self.timeout):
                results[reply.id] = _result(reply)
        except TimeoutError:
            self._no_answer(calls[0][0])
        return results

    # --- runs ---------------------------------------------------------------------------------------------------------
    def run(  # noqa: PLR0913  (the options of the method `run`, all of them by name)
        self,
        target: object,
        *args: Any,
        key: str | None = None,
        app: str | None = None,
        priority: int | None = None,
        timeout: float | str | None = None,
        start_within: float | str | None = None,
        delay: float | str | None = None,
        retries: int | None = None,
        env: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        params: Any = None,
        **kwargs: Any,
    ) -> Run:
        """Order a run; it is in the daemon's journal when this returns.

        Args:
            target: ``module:name``, a job's short name, or the function or class itself.
            args, kwargs: its arguments, positional or by name (not both), as JSON can carry them.
            key: the run's name; an order that is repeated with the same key, target and arguments gives the same run.
            app: the application, when several have such a target.
            priority: higher goes first.
            timeout, start_within, delay: seconds, or a duration such as ``"10m"``.
            retries: how often it is tried again after a failure.
            env, labels: further environment variables; anything to find the run by.
            params: the arguments as a whole, for names that clash with one of the above.

        Raises:
            InUse: the key belongs to a run of something else.
            NotFound, NotAllowed: the target.
            TooBusy: too many runs wait already.
            TypeError: the arguments are not JSON.
        """
        options = {
            "key": key, "app": app, "priority": priority, "timeout": timeout, "start_within": start_within, "delay": delay,
            "retries": retries, "env": env, "labels": labels, "params": params,
        }  # fmt: skip
        ordered = order(target, args, kwargs, options)
        return Run(self, ordered["key"], self.request("run", ordered))

    def call(self, target: object, *args: Any, key: str | None = None, params: Any = None, **kwargs: Any) -> Any:
        """Order a run, wait until it has ended, return what it returned. For further options: ``run(...).result()``.

        Raises:
            JobFailed: it ended otherwise than well; with its type, message and traceback.
            What ``run`` raises.
        """
        ordered = order(target, args, kwargs, {"key": key, "params": params})
        result = self.request("call", ordered, wait=True)
        return result.get("result") if isinstance(result, dict) else result

    def get(self, key: object) -> Run:
        """The run with this key. Raises NotFound."""
        record = self.status(key)
        return Run(self, str(record.get("key", key)), record)

    def status(self, key: object) -> Record:
        """The record of a run. Raises NotFound."""
        record: Record = self.request("status", {"key": str(key)})
        return record

    def runs(self, **filters: Any) -> list[Record]:
        """The records of all runs that fit: ``app``, ``state``, ``limit``, ``after`` ..."""
        return records_of(self.request("list", {name: value for name, value in filters.items() if value is not None}))

    def wait(self, *keys: object, timeout: float | None = None) -> Iterator[Record]:
        """The records of these runs, each when it has ended.

        Raises:
            NotFound: one of the keys is not known.
            TimedOut: ``timeout`` seconds have passed and some have not ended.
        """
        until = None if timeout is None else time.monotonic() + timeout
        late = TimedOut(f"not ended within {timeout} s: it goes on; wait for it again, or terminate it")
        calls = [Call("wait", {"key": str(key)}, until) for key in keys]
        try:
            for reply in self._line.ask(calls, None if until is None else until + _MARGIN):
                record = _result(reply)
                if timed_out(record):
                    raise late
                yield record
        except TimedOut:
            raise
        except TimeoutError:
            raise late from None

    def terminate(self, key: object, signal: int | None = None) -> None:
        """End a run: TERM (or ``signal``) to its process group, KILL after the grace. Raises NotFound, NotNow."""
        self.request("terminate", {"key": str(key)} if signal is None else {"key": str(key), "signal": signal})

    def free(self, key: object) -> None:
        """Let the daemon forget an ended run and its output. Raises NotFound, NotNow (it has not ended)."""
        self.request("free", {"key": str(key)})

    def retry(self, key: object) -> Run:
        """Run an ended run again under its key. Raises NotFound, NotNow (it has not ended)."""
        record = self.request("retry", {"key": str(key)})
        return Run(self, str(key), record if isinstance(record, dict) else {})

    def logs(self, key: object, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """The output of a run from byte ``offset`` on, in pieces; ``follow``: until it has ended. Raises NotFound."""
        position = offset
        if follow:
            for text, behind in self._follow(str(key), offset):
                position = behind
                yield text
        while True:
            chunk = self.request("logs", {"key": str(key), "offset": position})
            if not chunk.get("text") or chunk["offset"] <= position:
                return
            position = chunk["offset"]
            yield chunk["text"]

    def _follow(self, key: str, position: int) -> Iterator[tuple[str, int]]:
        """Pieces of output, each with the position behind it, until the run has ended."""
        patience = Patience(self._line.patience)
        attempt = 0
        while True:
            conversation = self._line.connect(patience, first=attempt == 0)
            attempt += 1
            try:
                conversation.ask(follow_calls(key, position), self.timeout)
                while True:
                    # Until the reply is in, the daemon owes one; afterwards a job may be silent for as long as it likes.
                    limit = time.monotonic() + self.timeout if FOLLOW in conversation.unanswered.values() else None
                    for event in conversation.events(limit):
                        patience.success()
                        if isinstance(event, Reply) and event.id == ENDED:
                            if event.error is None:
                                return
                            continue
                        chunk = _chunk(event, key)
                        if chunk.get("offset", 0) > position:
                            position = chunk["offset"]
                            yield chunk.get("text", ""), position
                        if chunk.get("ended"):
                            return
            except LinkLost as error:
                pause(patience, error, conversation.opened_at)
            except TimeoutError:
                self._no_answer("logs")
            finally:
                # Never used again: notifications may still be on their way.
                conversation.close()

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def stats(self) -> dict[str, Any]:
        """Numbers about the daemon, and ``restarts``: the list of the last hand-overs."""
        stats: dict[str, Any] = self.request("stats")
        return stats

    def pools(self) -> Any:
        """Sizes and numbers of every pool."""
        return self.request("pools")

    def restart(self) -> int:
        """Load the code and the configuration anew and hand over to it; returns the generation that serves then.

        Raises NotNow, with the reason, when the new code cannot serve: then nothing has changed.
        """
        return _generation(self.request("restart", wait=True))

    def reload(self) -> int:
        """Read the configuration again and restart. Raises as ``restart``."""
        return _generation(self.request("reload", wait=True))

    def drain(self) -> int:
        """Take no more runs; returns when the present ones have ended."""
        return _generation(self.request("drain", wait=True))

    def stop(self, *, wait: bool = True) -> None:
        """Stop the daemon in order; ``wait`` until it is gone: its process if that is of this machine, else its connection."""
        process = self._process() if wait else None
        try:
            self._stop(wait=wait)
            if process is not None:
                fd, process = process, None
                wait_gone(fd)
        finally:
            if process is not None:
                os.close(process)

    def _process(self) -> int | None:
        try:
            return watch(self.stats().get("pid")) if self.place.address.kind == "unix" else None
        except RequestError:
            return None

    def _stop(self, *, wait: bool) -> None:
        """Order it and, with ``wait``, stay until the connection has ended."""
        conversation = self._line.take()
        try:
            while not self._ordered_to_stop(conversation):
                conversation.close()
                try:
                    conversation = Conversation(self.place)
                except NoDaemon:
                    return
            while wait:
                conversation.events(None)
        except LinkLost:
            pass  # the daemon ends the connections when it has stopped
        finally:
            conversation.close()

    def _ordered_to_stop(self, conversation: Conversation) -> bool:
        """Whether the daemon has taken the order; false when the connection was lost before it said so (it crashed or went)."""
        try:
            conversation.ask({0: Call("stop", {})}, self.timeout)
            while conversation.unanswered:
                for event in conversation.events(time.monotonic() + self.timeout):
                    if isinstance(event, Reply):
                        _result(event)
        except LinkLost:
            return False
        except TimeoutError:
            self._no_answer("stop")
        return True


class Run:
    """One run at the daemon. ``record`` is what was last heard of it."""

    __slots__ = ("client", "key", "record")

    def __init__(self, client: Client, key: str, record: Record) -> None:
        self.client = client
        self.key = key
        self.record = record

    def __repr__(self) -> str:
        return f"Run({self.key!r}, {self.record.get('target')!r}, {self.record.get('state')!r})"

    def status(self) -> Record:
        """Ask for the record as it is now. Raises NotFound (it was freed)."""
        self.record = self.client.status(self.key)
        return self.record

    def wait(self, timeout: float | None = None) -> Record:
        """The record when the run has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound."""
        for record in self.client.wait(self.key, timeout=timeout):
            self.record = record
        return self.record

    def result(self, timeout: float | None = None) -> Any:
        """What the job returned. Raises JobFailed when it ended otherwise than well, and what ``wait`` raises."""
        record = self.wait(timeout)
        error = failure(record)
        if error is not None:
            raise error
        return record.get("result")

    def logs(self, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Its output from byte ``offset`` on, in pieces; ``follow``: until it has ended."""
        return self.client.logs(self.key, follow=follow, offset=offset)

    def terminate(self, signal: int | None = None) -> None:
        """End it: TERM to its process group, KILL after the grace. Raises NotNow (it has ended)."""
        self.client.terminate(self.key, signal)

    def free(self) -> None:
        """Let the daemon forget it. Raises NotNow (it has not ended)."""
        self.client.free(self.key)

    def retry(self) -> Run:
        """Run it again under its key, once it has ended."""
        return self.client.retry(self.key)


def _result(reply: Reply) -> Any:
    if reply.error is not None:
        raise reply.error
    return reply.result


def _chunk(event: Reply | Notification, key: str) -> dict[str, Any]:
    if isinstance(event, Reply):
        chunk = _result(event)
        return chunk if isinstance(chunk, dict) else {}
    return event.params if event.method == "logs" and event.params.get("key") == key else {}


def _generation(result: Any) -> int:
    return int(result.get("generation", 0)) if isinstance(result, dict) else 0
