"""What the end of a process, a fork and a reused worker keep apart: files, exit handlers, settings, releases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from tests.process.zygotes import BOOT, Zygote

SOURCE = """
    import atexit, faulthandler, gzip, locale, logging, os, resource, signal, socket, sys, tempfile, time, warnings
    from rocksyd import job

    here = os.path.dirname(os.path.abspath(__file__))
    early = open(os.path.join(here, "early.txt"), "a")
    early.write("preload\\n")
    early_bytes = open(os.path.join(here, "early.bin"), "ab")
    early_bytes.write(b"preload\\n")
    folder = tempfile.mkdtemp(dir=here)
    atexit.register(lambda: os.rmdir(folder))
    atexit.register(lambda: open(os.path.join(here, "gone.txt"), "a").write(f"{os.getpid()}\\n"))
    late = packed = None
    at_work_until = 0.0

    @job
    def writes(path):
        global late, packed
        early.write("job\\n")
        early_bytes.write(b"job\\n")
        late = open(path, "w")
        late.write("last line")
        packed = gzip.open(path + ".gz", "wt")
        packed.write("packed")
    @job
    def folder_is_there(): return os.path.isdir(folder)
    @job
    def registers(path):
        atexit.register(lambda: open(path, "w").write("handled"))
    @job
    def spoils(what):
        if what == "TZ":
            os.environ["TZ"] = "Asia/Tokyo"
            time.tzset()
        elif what == "locale": locale.setlocale(locale.LC_ALL, "C.UTF-8")
        elif what == "recursion": sys.setrecursionlimit(5000)
        elif what == "limits": resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        elif what == "nice": os.nice(3)
        elif what == "affinity": os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        elif what == "socket": socket.setdefaulttimeout(1.5)
        elif what == "path": sys.path.insert(0, "/nowhere")
        elif what == "other path": sys.path = ["/nowhere"]
        elif what == "logging": logging.disable(logging.CRITICAL)
        elif what == "excepthook": sys.excepthook = lambda *_: None
        elif what == "argv": sys.argv[:] = ["other"]
        elif what == "warnings": warnings.simplefilter("error")
        elif what == "hook": sys.meta_path.insert(0, object)
        elif what == "umask": os.umask(0o077)
        elif what == "prof": signal.setitimer(signal.ITIMER_PROF, 0.2)
        elif what == "virtual": signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
        elif what == "faulthandler":
            global at_work_until
            at_work_until = time.monotonic() + 2.5
            faulthandler.dump_traceback_later(2.0, exit=True)
    @job
    def settings():
        umask = os.umask(0)
        os.umask(umask)
        return [time.tzname, time.timezone, locale.setlocale(locale.LC_ALL), sys.getrecursionlimit(),
                resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)),
                socket.getdefaulttimeout(), list(sys.path), logging.root.manager.disable, sys.excepthook is sys.__excepthook__,
                sys.argv, len(warnings.filters), len(sys.meta_path), umask, os.environ.get("TZ")]
    @job
    def zone(): return time.tzname[0]
    @job
    def burns():
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        time.sleep(max(0.0, at_work_until - time.monotonic()))
        return "alive"
    @job
    def lower():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setresuid(65534, 65534, 65534)
    def lazy():
        yield 1
    async def lazy_too():
        yield 1
    @job
    def returns_one(): return lazy()
    @job
    def shouts(size): raise ValueError("x" * size)
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), allow=("shop:lazy*",)) as zygote:
        zygote.ready()
        yield zygote


def _reused(zygote: Zygote, *jobs: tuple[str, list[object]]) -> list[messages.Result]:
    """What several jobs say that one worker runs, one after the other."""
    worker = zygote.fork()
    return [worker.run(f"shop:{name}", params, key=f"{name} {at}", last=False) for at, (name, params) in enumerate(jobs)]


def test_what_is_written_is_there_when_the_worker_has_left(zygote: Zygote) -> None:
    path = zygote.folder / "late.txt"
    result, _ = zygote.run("shop:writes", [str(path)])
    assert result.ok, result.error
    assert path.read_text() == "last line"
    assert (zygote.folder / "late.txt.gz").stat().st_size > 20
    assert (zygote.path / "early.txt").read_text() == "preload\njob\n"


def test_what_the_preload_has_written_is_written_once(zygote: Zygote) -> None:
    for number in range(3):
        result, _ = zygote.run("shop:writes", [str(zygote.folder / f"{number}")])
        assert result.ok, result.error
    assert (zygote.path / "early.txt").read_text() == "preload\n" + 3 * "job\n"
    assert (zygote.path / "early.bin").read_bytes() == b"preload\n" + 3 * b"job\n"


def test_a_reused_worker_writes_what_it_holds_before_its_run_has_ended(zygote: Zygote) -> None:
    (first,) = _reused(zygote, ("writes", [str(zygote.folder / "late.txt")]))
    assert first.ok, first.error
    assert (zygote.path / "early.txt").read_text() == "preload\njob\n"


def test_exit_handlers_of_the_preload_are_the_zygotes_own(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",)) as zygote:
        zygote.ready()
        assert [zygote.run("shop:folder_is_there")[0].value for _ in range(2)] == [True, True]
        assert not (zygote.path / "gone.txt").exists()
        zygote.send(messages.Retire())
        zygote.at_end()
        zygote.wait()
        assert (zygote.path / "gone.txt").read_text() == f"{zygote.pid}\n"
        assert not [name for name in os.listdir(zygote.path) if name.startswith("tmp")]


def test_exit_handlers_of_a_job_are_its_workers(zygote: Zygote) -> None:
    path = zygote.folder / "handled"
    result, _ = zygote.run("shop:registers", [str(path)])
    assert result.ok
    assert path.read_text() == "handled"


COLLECTS = """
    import atexit, functools, logging.handlers, os
    from pathlib import Path

    here = Path(__file__).parent
    collected = []
    def send(where): where.open("a").write(f"{os.getpid()} {collected}\\n")
    atexit.register(functools.partial(send, here / "sent.txt"))
    logger = logging.getLogger("collects")
    logger.addHandler(logging.handlers.MemoryHandler(100, target=logging.FileHandler(here / "log.txt", delay=True)))
"""
REPORTS = """
    import os, statsd
    from rocksyd import job

    @job
    def counts(what):
        statsd.collected.append(what)
        statsd.logger.warning(what)
        return os.getpid()
"""


def test_handlers_of_the_preload_that_send_what_a_worker_has_collected_run_in_each(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"statsd": COLLECTS, "shop": REPORTS}, jobs=("shop",)) as zygote:
        zygote.ready()
        pids = [zygote.run("shop:counts", [what])[0].value for what in ("one", "two")]
        assert (zygote.path / "sent.txt").read_text() == f"{pids[0]} ['one']\n{pids[1]} ['two']\n"
        assert (zygote.path / "log.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "what",
    ["TZ", "locale", "recursion", "limits", "nice", "affinity", "socket", "path", "other path", "logging", "excepthook", "argv",
     "warnings", "hook", "umask"],
)  # fmt: skip
def test_a_setting_that_a_job_changes_is_put_back(zygote: Zygote, what: str) -> None:
    before, spoils, after = _reused(zygote, ("settings", []), ("spoils", [what]), ("settings", []))
    assert spoils.ok, spoils.error
    assert after.value == before.value


@pytest.mark.parametrize("what", ["prof", "virtual", "faulthandler"])
def test_a_timer_of_one_job_does_not_end_the_next(zygote: Zygote, what: str) -> None:
    spoils, burns = _reused(zygote, ("spoils", [what]), ("burns", []))
    assert spoils.ok, spoils.error
    assert burns.value == "alive"


def test_the_time_zone_of_a_run_holds_for_it_alone(zygote: Zygote) -> None:
    worker = zygote.fork()
    with_zone = worker.run("shop:zone", key="a", last=False, env={"TZ": "Asia/Tokyo"})
    without = worker.run("shop:zone", key="b", last=False)
    assert with_zone.value == "JST"
    assert without.value != "JST"


@pytest.mark.root
def test_a_worker_that_cannot_be_put_right_has_no_other_job(zygote: Zygote) -> None:
    worker = zygote.fork()
    key = worker.start("shop:lower", key="lower", last=False)
    result = worker.next(messages.Result)
    assert result.ok, result.error
    worker.send(messages.JobAck(key))
    assert worker.at_end()
    assert zygote.exited(worker).status == 0


@pytest.mark.parametrize("target", ["lazy", "lazy_too", "returns_one"])
def test_a_generator_is_no_job(zygote: Zygote, target: str) -> None:
    result, _ = zygote.run(f"shop:{target}")
    assert result.error is not None
    assert "generator" in result.error["message"]


def test_an_error_of_any_size_is_told_in_a_bounded_record(zygote: Zygote) -> None:
    result, _ = zygote.run("shop:shouts", [20_000_000])
    assert result.error is not None
    assert len(result.error["message"]) < 20_000
    assert len(result.error["traceback"]) < 200_000
    assert "characters cut" in result.error["message"]


RELEASE = """
    import os
    from rocksyd import job
    @job
    def late():
        import part
        return [part.RELEASE, os.getcwd()]
"""


def test_a_generation_keeps_to_the_release_it_was_loaded_from(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text(f"RELEASE = {name!r}\n")
    (tmp_path / "app").symlink_to(tmp_path / "one")
    with Zygote(tmp_path, {"shop": RELEASE}, jobs=("shop",)) as zygote:
        zygote.ready()
        (tmp_path / "new").symlink_to(tmp_path / "two")
        os.replace(tmp_path / "new", tmp_path / "app")
        result, _ = zygote.run("shop:late")
        assert result.value == ["one", str(tmp_path / "one")]


SHARED = """
    from rocksyd import job
    @job
    async def late(): return "ran"
"""


def test_a_process_of_the_daemon_keeps_to_the_version_it_was_started_from(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "rocksyd").symlink_to(Path(BOOT).parent)
    with Zygote(tmp_path, {"shop": SHARED}, boot=str(tmp_path / "rocksyd" / "boot.py"), jobs=("shop",)) as zygote:
        zygote.ready()
        (tmp_path / "new").symlink_to(tmp_path / "nothing")
        os.replace(tmp_path / "new", tmp_path / "rocksyd")
        zygote.send(messages.Fork(worker=1, pool="main", concurrency=2))  # such a worker's module is imported after the fork
        worker = zygote.adopt(zygote.next(messages.Forked))
        assert worker.run("shop:late", key="a", last=False).value == "ran"
