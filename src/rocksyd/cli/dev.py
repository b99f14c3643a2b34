"""``rocksyd dev``: the daemon in the foreground, for development. A changed file reloads it, what runs print is shown.

What must live here: the daemon's process, what is watched, and the order of things.
What this file must not know: what lines look like (``dev_view``), which files matter (``dev_files``), inotify.

The daemon is the one of ``rocksyd serve``, a child of this process in a process group of its own, so that Ctrl-C means the same
here as TERM to the service: once to stop in order, twice to stop now. When this process dies otherwise, the kernel tells it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

from rocksyd import config as configuration
from rocksyd.cli.banner import banner
from rocksyd.cli.dev_files import Files
from rocksyd.cli.dev_view import View
from rocksyd.cli.tables import screen
from rocksyd.client import AsyncClient
from rocksyd.client.endpoint import place_of
from rocksyd.config import Config
from rocksyd.errors import ConfigError, NoDaemon, RequestError, RocksydError
from rocksyd.keeper import launch
from rocksyd.posix import libc
from rocksyd.posix.watching import Tree

LULL = 0.1
"""Seconds without a change after which those before are acted on: editors and version control write several files."""
REFUSED = 1
"""Exit status where the daemon could not be started."""
MOST_FOLLOWED = 50
"""Runs whose output is shown at the same time; of more, only the end is."""
_REFUSED = re.compile(r"\bmaster\[\d+\] (?:reload|restart) ordered by .+ failed, nothing has changed")
_MORE = "    "
"""What further lines of one entry of the log begin with."""


def dev(options: argparse.Namespace, path: str) -> int:
    """Run it until Ctrl-C; the daemon's exit status."""
    loaded = configuration.load(path)
    sys.stdout.write(banner(loaded))
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    view = View(coloured=screen().coloured, signs=encoding == "utf8")
    return asyncio.run(Development(loaded, view, [os.path.abspath(one) for one in options.watch], reload=options.reload).run())


class Development:
    """One ``rocksyd dev``."""

    def __init__(self, loaded: Config, view: View, more: list[str], *, reload: bool = True) -> None:
        self._config = loaded
        self._view = view
        self._more = more
        self._files = Files(loaded, more)
        self._reload = reload
        self._place = place_of(loaded.path)
        self._changed: set[str] = set()
        self._change = asyncio.Event()
        self._tree: Tree | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._refusals = 0
        """Orders of ours whose refusal the daemon's log is still to tell, which is shown in better words."""

    def _show(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    # --- the whole ------------------------------------------------------------------------------------------------------
    async def run(self) -> int:
        """Until the daemon has ended for good; its exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        if self._reload:
            self._watch()
        try:
            while not self._stopping:
                status = await self._serve()
                if status is not None or not self._reload:
                    return REFUSED if status is None else status
                if not self._stopping:
                    self._show(self._view.note("waiting for a change"))
                    await self._next_change()
            return 0
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            self._unwatch()

    def _stop(self) -> None:
        self._stopping = True
        self._change.set()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def _serve(self) -> int | None:
        """Start the daemon and stay with it; its exit status, None when it could not be started."""
        read, write = os.pipe()
        try:
            words = [*launch.command(self._config.path), "--ready-fd", str(write)]
            self._process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write,), process_group=0, preexec_fn=lambda: libc.die_with_parent(signal.SIGTERM),
                # Python's cache tells a file's versions by second and length: two edits within one second would be one.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ROCKSYD_LOG": "text"},
            )  # fmt: skip
        finally:
            os.close(write)
        logged = asyncio.create_task(self._show_log(self._process))
        said = await _read_line(read)
        if said == "ready":
            company = asyncio.create_task(self._accompany())
            status = await self._process.wait()
            await _ended(company)
        else:
            status = None
            await self._process.wait()
        await logged
        if status is None and not self._stopping:
            self._show(
                self._view.not_started(said.removeprefix("failed ").strip() or "the daemon could not be started; see above")
            )
        return status

    async def _accompany(self) -> None:
        """Everything there is to do while the daemon serves."""
        async with AsyncClient(str(self._place.address), self._place.token) as client:
            tasks = [asyncio.create_task(self._tell_of_runs(client)), asyncio.create_task(self._reload_on_change(client))]
            try:
                await asyncio.gather(*tasks)
            except (NoDaemon, RequestError) as error:
                if not self._stopping:
                    self._show(self._view.note(str(error)))
            finally:
                for task in (*tasks, *self._followed.values()):
                    await _ended(task)
                self._followed.clear()

    async def _show_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        hidden = False
        while data := await process.stdout.readline():
            line = data.decode(errors="replace").rstrip("\n")
            hidden = bool(_REFUSED.search(line) and self._refusals) or (hidden and line.startswith(_MORE))
            if not hidden:
                self._show(self._view.log(line))
            elif not line.startswith(_MORE):
                self._refusals -= 1

    # --- runs ---------------------------------------------------------------------------------------------------------
    async def _tell_of_runs(self, client: AsyncClient) -> None:
        async with await client.subscribe(events=["run.started", "run.ended"]) as news:
            what = "a changed file reloads; " if self._tree is not None else ""
            self._show(self._view.note(f"{what}Ctrl-C stops"))
            for record in await client.runs(state="running"):
                self._begun(client, record)  # from the queue that the last daemon left
            async for event in news:
                if event.name == "run.started":
                    self._begun(client, event.record)
                elif event.key not in self._followed and event.record.get("log") is not None:
                    self._show(self._view.ended(event.record))

    def _begun(self, client: AsyncClient, record: dict[str, Any]) -> None:
        """Follow it; not a script of ``exec``, whose caller has the output."""
        key = str(record["key"])
        if record.get("log") is not None and key not in self._followed and len(self._followed) < MOST_FOLLOWED:
            self._followed[key] = asyncio.create_task(self._follow(client, record))

    async def _follow(self, client: AsyncClient, record: dict[str, Any]) -> None:
        key = str(record["key"])
        try:
            async for text in client.logs(key, follow=True):
                self._show(self._view.output(record, text))
            self._show(self._view.ended(await client.wait(key)))
        except RocksydError as error:
            if not self._stopping:
                self._show(self._view.note(f"{key}: {error}"))
        finally:
            self._followed.pop(key, None)

    # --- changes ------------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Watch the files there are now; what those before have seen by then counts."""
        tree = None
        try:
            tree = Tree(self._files.entered)
            for folder in self._files.folders():
                tree.add(folder)
        except OSError as error:
            self._not_all_seen(error)
        if self._tree is not None:
            self._look()
            self._unwatch()
        self._tree = tree
        if tree is not None:
            asyncio.get_running_loop().add_reader(tree.fileno(), self._look)

    def _not_all_seen(self, error: OSError) -> None:
        cure = "raise fs.inotify.max_user_watches, or reload by hand (rocksyd reload)"
        self._show(self._view.note(f"not every change will be seen: {error.filename}: {error.strerror}: {cure}"))

    def _unwatch(self) -> None:
        if self._tree is not None:
            asyncio.get_running_loop().remove_reader(self._tree.fileno())
            self._tree.close()
            self._tree = None

    def _look(self) -> None:
        assert self._tree is not None
        try:
            found = self._tree.changed()
        except OSError as error:
            return self._not_all_seen(error)
        wanted = {path for path in found if self._files.matters(path)}
        if wanted:
            self._changed |= wanted
            self._change.set()
        return None

    async def _next_change(self) -> set[str]:
        """What has changed, once nothing more has for a moment; nothing when it is time to stop."""
        while True:
            await self._change.wait()
            self._change.clear()
            try:
                async with asyncio.timeout(LULL):
                    await self._change.wait()
            except TimeoutError:
                changed, self._changed = self._changed, set()
                return changed

    async def _reload_on_change(self, client: AsyncClient) -> None:
        while changed := await self._next_change():
            await self._load(client, changed)

    async def _load(self, client: AsyncClient, changed: set[str]) -> None:
        """Reload; where the configuration itself has changed restart, because it may name other addresses."""
        names = self._files.shown(changed)
        configured = any(map(self._files.configures, changed))
        if configured:
            self._configure()
        began = time.monotonic()
        self._refusals += 1
        try:
            reached = await client.request("restart" if configured else "reload", wait=True)
        except RequestError as error:
            return self._show(self._view.refused(names, _reason(error)))
        self._refusals -= 1
        self._show(self._view.reloaded(names, int(reached["generation"]), time.monotonic() - began))
        return None

    def _configure(self) -> None:
        """Look after the folders of the new configuration before they are loaded: no later change may be missed."""
        try:
            self._config = configuration.load(self._config.path)
        except ConfigError:
            return  # the daemon will say what is wrong
        self._files = Files(self._config, self._more)
        self._watch()


def _reason(error: RequestError) -> str:
    """Without what is said around it for those who did not order it themselves."""
    text = str(error)
    for prefix in ("Reload failed: ", "Restart failed: "):
        text = text.removeprefix(prefix)
    return text.removesuffix(": nothing has changed")


async def _read_line(fd: int) -> str:
    """What the keeper says of its start; it closes the pipe behind it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    try:
        return (await reader.read()).decode(errors="replace").strip()
    finally:
        transport.close()


async def _ended(task: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> None:
    """Cancel a task and wait for its end."""
    waited = asyncio.ensure_future(task)
    waited.cancel()
    await asyncio.gather(waited, return_exceptions=True)
