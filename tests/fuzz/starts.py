"""Every file that a daemon reads when it starts, changed by its structure: it starts and serves, or says what is wrong.

What must live here: which files there are, and what each may become. What this file must not know: how values are changed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rocksyd.errors import SnapshotError
from rocksyd.master.snapshot import parse
from rocksyd.posix.channel import memfd
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, DaemonError, until
from tests.fuzz.stage import CONFIG, JOBS
from tests.fuzz.talking import Finding
from tests.fuzz.values import broken, changed, spelt

GOLDEN = Path(__file__).parent.parent / "golden"
KEPT = {"ended": [1], "waiting": [2]}
"""Runs that nobody touches, and what they were given."""


class Starts:
    """One daemon, started again and again."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self._chance = chance

    def rounds(self, count: int) -> Counter[str]:
        """So many starts of each kind. Returns how many there were; raises AssertionError with a finding."""
        counts: Counter[str] = Counter()
        kinds: list[Callable[[Daemon], bool]] = [self._rows, self._rows, self._file, self._bytes, self._config]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            self._one(self._folder / str(number), kind)
            counts[f"starts with changed {kind.__name__.strip('_')}"] += 1
        for _ in range(count * 20):
            self._snapshot()
        counts["snapshots"] += count * 20
        return counts

    def _one(self, folder: Path, change: Callable[[Daemon], bool]) -> None:
        daemon = Daemon(folder, JOBS, config=CONFIG)
        with daemon:
            with Conversation(daemon.connect()) as talk:
                for key, params in (*KEPT.items(), ("other", [3]), ("late", [4])):
                    delay = "1h" if key in ("waiting", "late") else 0
                    talk.rpc("run", target="echo", params=params, key=key, delay=delay)
                for key in ("ended", "other"):
                    talk.rpc("wait", key=key)
            daemon.stop()
            before = set(daemon.log().splitlines())
            must = change(daemon)
            try:
                daemon.start()
            except DaemonError as error:
                self._refusal(daemon, [line for line in daemon.log().splitlines() if line not in before], error, must=must)
                return
            self._serves(daemon, kept=must)
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(0 if must else None)

    @staticmethod
    def _refusal(daemon: Daemon, said: list[str], error: Exception, *, must: bool) -> None:
        """It has ended: with a sentence, where what was changed is what it cannot do without."""
        assert daemon.process is not None
        status = daemon.process.poll()
        if must or status != 1 or any("Traceback" in line for line in said) or not said:
            raise Finding(f"status {status}: {error}")

    @staticmethod
    def _serves(daemon: Daemon, *, kept: bool) -> None:
        try:
            connection = daemon.connect()
        except OSError:  # its address was among what was changed
            return
        with Conversation(connection) as talk:
            reply = talk.ask('{"jsonrpc":"2.0","id":1,"method":"targets"}')
            if not kept:
                return
            assert reply["result"], daemon.log()
            assert talk.rpc("call", target="echo", params=[5])["result"] == [5], daemon.log()
            for key, params in KEPT.items():
                assert talk.rpc("status", key=key)["params"] == params, daemon.log()
            assert talk.rpc("status", key="ended")["result"] == [1], daemon.log()
            talk.rpc("run", target="prints", key="new", timeout="5s")  # its output may be what was changed: then it says so
            talk.rpc("wait", key="new")
            for record in talk.rpc("list", limit=1000):
                for method in ("status", "why", "logs"):
                    assert (
                        talk.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": [record["key"]]}))["id"] == 1
                    )
            for method in ("stats", "health", "pools"):
                talk.rpc(method)
            assert not talk.rpc("health")["faults"], daemon.log()
        before = daemon.master_pid
        os.kill(before, signal.SIGKILL)  # what a start reads, a recovery reads
        until(lambda: [pid for pid in daemon.children("rocksyd: master") if pid != before], "another master")
        with Conversation(daemon.connect()) as talk:
            assert talk.rpc("status", key="ended")["result"] == [1], daemon.log()

    # --- what is changed ----------------------------------------------------------------------------------------------
    def _rows(self, daemon: Daemon) -> bool:
        """Rows of the journal, as JSON; those of others are read all the same."""
        chance = self._chance
        with closing(sqlite3.connect(daemon.folder / "var" / "journal.sqlite")) as db:
            for table, name, value in (("runs", "key", "data"), ("meta", "name", "value"), ("restarts", "number", "data")):
                for key, text in db.execute(f"SELECT {name}, {value} FROM {table}").fetchall():
                    if key in KEPT or chance.random() < 0.3:
                        continue
                    data = json.loads(text)
                    new = spelt(chance, changed(chance, data)) if chance.random() < 0.85 else broken(chance, text.encode())
                    db.execute(f"UPDATE {table} SET {value} = ? WHERE {name} = ?", (new.decode(errors="replace"), key))
            for column in ("rev", "sequence", "ended", "ended_at", "app", "target", "outcome"):
                if chance.random() < 0.2:
                    odd = chance.choice([None, "", -1, 2**63 - 1, -(2**63), 1e308, b"\xff", "9" * 30, 0.5])
                    db.execute(f"UPDATE OR IGNORE runs SET {column} = ? WHERE key IN ('other', 'late')", (odd,))
            db.commit()
        return True

    def _file(self, daemon: Daemon) -> bool:
        """What stands in the place of a file, or beside it, is something else."""
        chance, folder = self._chance, daemon.folder / "var"
        output = next((folder / "output").glob("*"), folder / "output")
        journal, socket = folder / "journal.sqlite", daemon.folder / "d.sock"
        path, must = chance.choice(
            [
                *((path, True) for path in (output / "other.log", output / "new.log", folder / "slow.log")),
                *(
                    (folder / name, False)
                    for name in (f"output/{output.name}", "output", "lock", f"{journal.name}-wal", f"{journal.name}-shm")
                ),
                *((path, False) for path in (journal, socket, socket.with_name("d.sock.exec"))),
            ]
        )
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name("aside"))
        path.unlink(missing_ok=True)
        kind = chance.randrange(7)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            path.symlink_to(chance.choice(["/dev/null", "/nowhere/at/all", path.name, "/dev/zero"]))
        elif kind == 3:
            path.write_bytes(b"")
        elif kind == 4:
            path.write_bytes(chance.randbytes(5000))
        elif kind == 5:
            path.write_text("text\n" * 100)
            path.chmod(0)
        return must

    def _bytes(self, daemon: Daemon) -> bool:
        """Bytes of the journal, anywhere."""
        chance, path = self._chance, daemon.folder / "var" / "journal.sqlite"
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 3, 30])):
            at = chance.choice([chance.randrange(100), chance.randrange(len(data))])
            data[at : at + chance.choice([1, 1, 1, 4])] = chance.randbytes(chance.choice([1, 1, 4]))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        path.write_bytes(data)
        return False

    def _config(self, daemon: Daemon) -> bool:
        """The configuration: a value of another type, a line lost or doubled, some bytes changed."""
        chance = self._chance
        lines = daemon.config.read_text().splitlines()
        for _ in range(chance.choice([1, 1, 2])):
            at = chance.randrange(len(lines))
            kind = chance.randrange(5)
            if kind == 0:
                del lines[at]
            elif kind == 1:
                lines.insert(at, chance.choice(lines))
            elif kind == 2 and "=" in lines[at]:
                name = lines[at].partition("=")[0]
                lines[at] = (
                    name
                    + "= "
                    + chance.choice(
                        [
                            "-1",
                            "0",
                            "1e9",
                            "true",
                            '""',
                            "[]",
                            "{}",
                            "nan",
                            "inf",
                            '"\\u0000"',
                            "9" * 40,
                            "1979-05-27",
                            '"1y"',
                            "[[]]",
                        ]
                    )
                )
            elif kind == 3:
                lines[at] = chance.choice(
                    ["", "unknown = 1", "[apps]", "[apps.'']", "[[apps.app]]", "[restart]", "max_line = 5", "x" * 5000, "\x00"]
                )
            else:
                lines[at] = broken(chance, lines[at].encode() or b"#").decode(errors="replace")
        daemon.config.write_text("\n".join(lines) + "\n")
        return False

    def _snapshot(self) -> None:
        """What one master leaves to the next is read, or refused."""
        chance = self._chance
        data = (GOLDEN / "0.1.0" / "handover.snapshot").read_bytes()
        head, _, body = data.partition(b"\n")
        if chance.random() < 0.7:
            head = spelt(chance, changed(chance, json.loads(head)))
        else:
            head = broken(chance, head)
        fd = memfd("snapshot", head + b"\n" + body[: chance.choice([None, 0, 5])])
        try:
            parse(fd)
        except SnapshotError:
            return
        finally:
            try:
                os.close(fd)
            except OSError:
                pass  # the reader has closed it
