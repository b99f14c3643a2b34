"""A script run for a caller who stays: everything from the caller's descriptors to its exit status, as a fresh Python would.

What must live here: the order in which an interpreter that is started with a script does things, and says how it ended.
What this file must not know: how messages are sent.

The caller is told two things over its line: ``pid N`` with a pidfd, before the script begins, and at the end ``exit N`` or
``signal N``. When the caller goes first, the kernel sends SIGHUP to the script's process group (fcntl(2), F_SETSIG), as for a
terminal that is closed: without a thread, or anybody who would have to watch.

Sources: ``pymain_run_python``, ``Py_RunMain`` and ``Py_FinalizeEx`` in CPython; runpy; fcntl(2).
"""

from __future__ import annotations

import _socket
import array
import atexit
import fcntl
import gc
import importlib.machinery
import itertools
import os
import resource
import runpy
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from rocksyd import messages, surroundings
from rocksyd.posix import libc, signals
from rocksyd.posix.channel import read_memfd
from rocksyd.posix.titles import set_title
from rocksyd.surroundings import Surroundings
from rocksyd.worker import console, deadline, files, inherited, output, stacks, stdio, tracing
from rocksyd.worker.context import Context
from rocksyd.worker.conversation import Conversation
from rocksyd.worker.debugger import Debugger, without_ours
from rocksyd.worker.seat import Seat, cpu_used

SURROUNDINGS, FOLDER, LINE, FIRST_STREAM = 0, 1, 2, 3
HANGUP = 128 + signal.SIGHUP
FLUSH_FAILED = 120
"""Exit status of a Python that could not write out what it held (``Py_RunMain``)."""
_USAGE = 2
# What an interpreter says that cannot flush or wait at its end: instead of naming the object, since Python 3.13.
_NOT_FLUSHED: str | None = None
_NOT_WAITED: str | None = None
if sys.version_info >= (3, 13):
    _NOT_FLUSHED, _NOT_WAITED = "Exception ignored on flushing sys.stdout", "Exception ignored on threading shutdown"
if sys.version_info >= (3, 14):
    _NOT_FLUSHED = "Exception ignored while flushing sys.stdout"


_debugger = Debugger()


class ScriptEnd(NamedTuple):
    """How a script ended."""

    status: int = 0
    signal: int = 0
    """The signal that the caller is to die of, as a Python does at KeyboardInterrupt."""


class Unstarted(Exception):
    """The script cannot be begun; the message says why."""


class CommandLine(NamedTuple):
    """What a command line asks Python to run."""

    kind: str
    """``file``, ``package`` (a folder or an archive with a ``__main__``), ``module``, ``command`` or ``stdin``."""
    what: str
    argv: list[str]
    unbuffered: bool = False
    interactive: bool = False


class CallerLine:
    """The worker's end of the line to the caller."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._identity = output.identity(fd)
        os.register_at_fork(after_in_child=self.close)

    def open(self) -> None:
        """Say who runs the script; from now on the caller's end means SIGHUP. Raises OSError when it has gone already."""
        fd = self._socket.fileno()
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGHUP)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        handle = os.pidfd_open(os.getpid())
        try:
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [handle]))]
            self._socket.sendmsg([b"pid %d" % os.getpid()], ancillary, _socket.MSG_NOSIGNAL)
        finally:
            os.close(handle)

    def mute(self) -> None:
        """The caller may go from now on."""
        if self._is_there():
            fcntl.fcntl(self._socket.fileno(), fcntl.F_SETFL, os.O_NONBLOCK)

    def _is_there(self) -> bool:
        """False when the script has closed everything that it found; something else may have the number then."""
        return self._socket.fileno() >= 0 and output.identity(self._socket.fileno()) == self._identity

    def say(self, ending: ScriptEnd) -> None:
        """The last word. A caller that does not hear it asks the daemon."""
        word = f"signal {ending.signal}" if ending.signal else f"exit {ending.status}"
        try:
            if self._is_there():
                self._socket.send(word.encode(), _socket.MSG_NOSIGNAL)
        except OSError:
            return

    def close(self) -> None:
        """In a child of the script, too: the line is the worker's alone."""
        if self._is_there():
            self._socket.close()


class Serving:
    """Runs one script, and leaves."""

    def __init__(self, context: Context, seat: Seat, master: Conversation) -> None:
        self._context = context
        self._seat = seat
        self._master = master

    def serve(self, job: messages.Job) -> NoReturn:
        """The caller is told how it ended before the master is, and nothing is left to clean up for."""
        before, started = cpu_used(), time.monotonic()
        set_title(self._context.job_title(job.title))
        self._seat.leaves(job.leftover, job.grace)
        span = tracing.Script(job) if tracing.wanted else None

        def began() -> None:
            self._seat.at("running", job.key)
            if span is not None:
                span.begin(os.environ.get("TRACEPARENT", ""))

        ending = run(job.fds, self._context, began)
        self._seat.done(job.key)
        retcode = 128 + ending.signal if ending.signal else ending.status
        max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cpu, ended = max(0.0, cpu_used() - before), time.monotonic()
        result = messages.Result(job.key, retcode == 0, retcode, cpu=cpu, max_rss=max_rss, started=started, ended=ended)
        self._master.say(result)
        self._master.await_ack(result)
        if span is not None:
            span.end(retcode)
        os._exit(0)


def run(fds: tuple[int, ...], context: Context, began: Callable[[], None]) -> ScriptEnd:
    """Run the script for the caller whose descriptors these are, in the application that ``context`` is of.

    Never raises. A child that the script has forked and let come back ends here.
    """
    if len(fds) < FIRST_STREAM:
        return ScriptEnd(HANGUP)
    pid = os.getpid()
    line = CallerLine(fds[LINE])
    try:
        line.open()
    except OSError:
        return ScriptEnd(HANGUP)
    try:
        around = surroundings.decode(read_memfd(fds[SURROUNDINGS]))
        _enter(around, fds, context.set_by_loading)
        order = parse(around.argv)
        _prepare(order, around, context.cwd)
        began()
        ending = _finish(_execute(order))
    except Unstarted as error:
        _complain(str(error))
        ending = ScriptEnd(_USAGE)
    except KeyboardInterrupt:  # before the script has begun, or after its end
        ending = ScriptEnd(1, signal.SIGINT)
    except (OSError, ValueError) as error:
        _complain(f"rocksyd exec: the script's surroundings cannot be had: {error}")
        ending = ScriptEnd(_USAGE)
    if os.getpid() != pid:
        _end_child(ending)
    signals.block_all()  # a last Ctrl-C must not meet what is left to do
    line.mute()
    _let_go()
    line.say(ending)
    line.close()
    return ending


def _complain(text: str) -> None:
    try:
        os.write(2, f"{text}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        return


def _end_child(ending: ScriptEnd) -> None:
    if ending.signal:
        signal.signal(ending.signal, signal.SIG_DFL)
        os.kill(os.getpid(), ending.signal)
    os._exit(ending.status)


# --- the caller's surroundings --------------------------------------------------------------------------------------------
def _enter(around: Surroundings, fds: tuple[int, ...], set_by_loading: dict[str, str]) -> None:
    """Descriptors, folder, environment, mask, signals: what an exec would have kept."""
    given = dict(zip(around.opened, fds[FIRST_STREAM:], strict=True))
    for number in (0, 1, 2):
        if str(number) in given:
            os.dup2(given[str(number)], number)
            os.close(given[str(number)])
        else:
            os.close(number)
    os.fchdir(fds[FOLDER])
    for fd in fds[:LINE]:
        os.close(fd)
    os.umask(int(around.umask))
    _change_environment(around.env)
    for name, value in set_by_loading.items():  # the modules are loaded, and will not set it a second time
        os.environ.setdefault(name, value)
    stdio.coerce_c_locale()
    time.tzset()
    deadline.forget()
    stacks.forget()
    ignored = {int(word) for word in around.ignored.split()}
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _change_environment(env: list[bytes]) -> None:
    """Make the environment this one. Most of it is the daemon's already: what is not touched is no page to copy."""
    wanted = {name: value for name, equals, value in (word.partition(b"=") for word in env) if name and equals}
    for name in [name for name in os.environb if name not in wanted]:
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def parse(argv: list[bytes]) -> CommandLine:
    """What follows ``python`` in a command line: options, then a script, ``-m module``, ``-c command`` or ``-``.

    Raises:
        Unstarted: an option that an interpreter has to be started with, or that there is none of.
    """
    words = [os.fsdecode(word) for word in argv]
    unbuffered, interactive = bool(os.environ.get("PYTHONUNBUFFERED")), False
    while words and words[0].startswith("-") and words[0] != "-":
        option = words.pop(0)
        while option := option[1:]:
            letter = option[0]
            if letter in "mc":
                what = option[1:] or (words.pop(0) if words else "")
                if not what and not option[1:]:
                    raise Unstarted(f"rocksyd exec: argument expected for the -{letter} option")
                kind = "module" if letter == "m" else "command"
                return CommandLine(kind, what, [f"-{letter}", *words], unbuffered, interactive)
            if letter == "u":
                unbuffered = True
            elif letter == "i":
                interactive = True
            else:
                raise Unstarted(
                    f"rocksyd exec: option -{letter} is for a Python that starts, and this one runs already; "
                    "it takes -c, -i, -m, -u and a script"
                )
    if words and words[0] != "-":
        kind = "package" if _is_package(words[0]) else "file"
        return CommandLine(kind, words[0], words, unbuffered, interactive)
    return CommandLine("stdin", "", words or [""], unbuffered, interactive)


def _prepare(order: CommandLine, around: Surroundings, path: str) -> None:
    """What the interpreter itself shows of its start."""
    stdio.open_streams(around.opened, unbuffered=order.unbuffered)
    sys.orig_argv = [sys.executable, *map(os.fsdecode, around.argv)]
    sys.argv[:] = order.argv
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    folder = _script_folder(order)
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(":") if entry]
    rest = [entry for entry in sys.path if entry not in given and entry not in (path, folder)]
    safe = bool(os.environ.get("PYTHONSAFEPATH"))
    first = [] if folder is None or safe else [folder]
    sys.path[:] = [*first, *given, *([] if path in first or path in given else [path]), *rest]
    here = _here()
    if folder is not None:
        sys.path_importer_cache.pop(folder, None)  # a folder's list of files may be older than its last change
        _forget_namesakes(folder or here)
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = here or None


def _script_folder(order: CommandLine) -> str | None:
    """``sys.path[0]``; None where there is none."""
    if order.kind in ("file", "package"):
        try:
            real = os.path.realpath(order.what)
        except OSError:  # a relative name in a folder that has been removed
            return os.path.dirname(order.what)
        return real if order.kind == "package" else os.path.dirname(real)
    return _here() or None if order.kind == "module" else ""


def _here() -> str:
    """The working folder; "" when it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _is_package(path: str) -> bool:
    """Whether Python would look for a ``__main__`` in it: a folder or a zip file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(4) == b"PK\x03\x04"
    except IsADirectoryError:
        return True
    except OSError:
        return False


def _forget_namesakes(folder: str) -> None:
    """Modules beside the script are the script's own: loaded ones of the same name, from elsewhere, make way for them."""
    try:
        found = {name.partition(".")[0] for name in os.listdir(folder)}
        names = [name for name in found if name in sys.modules and name not in sys.stdlib_module_names and name != "rocksyd"]
        inside = os.path.realpath(folder) if names else ""
    except OSError:  # also of a relative name in a folder that has been removed: nothing can be imported from there
        return
    for name in names:
        spec = importlib.machinery.PathFinder.find_spec(name, [folder])
        file = getattr(sys.modules[name], "__file__", None)
        if spec is None or spec.origin is None or file is None or os.path.realpath(file).startswith(inside + "/"):
            continue
        for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[loaded]


# --- running --------------------------------------------------------------------------------------------------------------
def _execute(order: CommandLine) -> ScriptEnd:
    """Run what is ordered as ``__main__``; an uncaught exception is printed as Python prints it, without frames of ours."""
    sys.modules.pop("__main__", None)
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # the last one, so that the script's own stand behind it
    if "__mp_main__" in sys.modules:  # multiprocessing is loaded: what its children send back is looked up in the script
        sys.modules["__mp_main__"] = main
    ending = _observed(lambda: _start(order, main.__dict__))
    if order.interactive or (order.kind == "stdin" and sys.stdin is not None and sys.stdin.isatty()):
        again = _observed(lambda: console.interact(sys.modules["__main__"].__dict__, banner=order.kind == "stdin"))
        return again if order.kind == "stdin" or again.status else ending
    return ending


def _show_source(code: types.CodeType, source: str) -> None:
    """Let tracebacks show the lines of a command, as Python does from 3.13 on, by a way that is not public and may go."""
    if sys.version_info >= (3, 13):
        import linecache  # noqa: PLC0415  (older ones do not need it)

        register = getattr(linecache, "_register_code", None)
        if register is not None:
            register(code, source, "<string>")


def _start(order: CommandLine, names: dict[str, Any]) -> None:
    names["__builtins__"] = sys.modules["builtins"]
    if sys.version_info < (3, 14):  # from then on a module has them when somebody asks
        names["__annotations__"] = {}
    names["__loader__"] = importlib.machinery.BuiltinImporter
    if order.kind == "module":
        loaded = sys.modules.get(order.what)
        if loaded is not None and not hasattr(loaded, "__path__"):
            del sys.modules[order.what]  # it is run anew, as __main__; runpy would warn of the one that is loaded
        _run_module(order.what, True)
    elif order.kind == "command":
        code = compile(order.what + "\n", "<string>", "exec", dont_inherit=True)
        _show_source(code, order.what + "\n")
        _run_code(code, names)
    elif order.kind == "file":
        _run_file(order.what, names)
    elif order.kind == "package":
        _run_module("__main__", False)
    elif sys.stdin is not None and not sys.stdin.isatty():
        names["__file__"], names["__cached__"] = "<stdin>", None
        _run_source(sys.stdin.buffer.read(), "<stdin>", names)


def _run_file(path: str, names: dict[str, Any]) -> None:
    here = _here()
    shown = f"{here}/{path}" if here and not os.path.isabs(path) else path
    try:
        with open(path, "rb", buffering=0) as file:
            source = file.read()
    except OSError as error:
        raise Unstarted(f"{sys.executable}: can't open file {shown!r}: [Errno {error.errno}] {error.strerror}") from None
    names["__file__"] = shown
    names["__cached__"] = None
    names["__loader__"] = importlib.machinery.SourceFileLoader("__main__", shown)
    _run_source(source, shown, names)


def _run_source(source: bytes, shown: str, names: dict[str, Any]) -> None:
    code = compile(source, shown, "exec", dont_inherit=True)
    try:
        _run_code(code, names)
    finally:
        _flush(quiet=True)  # before threads are waited for and an exception is printed, as ``pyrun_file`` does


def _run_code(code: types.CodeType, names: dict[str, Any]) -> None:
    _debugger.with_it(exec, code, names)


def _run_module(name: str, alter_argv: bool) -> None:
    _debugger.with_it(runpy._run_module_as_main, name, alter_argv)  # type: ignore[attr-defined]


def _observed(call: Callable[[], Any]) -> ScriptEnd:
    try:
        call()
    except SystemExit as error:
        return ScriptEnd(_exit_status(error.code))
    except Unstarted:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a script raises, it ends the script)
        return _uncaught(error)
    return ScriptEnd()


def _exit_status(code: object) -> int:
    """Of ``sys.exit(code)``."""
    if code is None:
        return 0
    if isinstance(code, int):
        return (code & 0xFF) if -(1 << 63) <= code < 1 << 63 else 255
    _print_error(f"{code}\n")
    return 1


def _print_error(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return


def _uncaught(error: BaseException) -> ScriptEnd:
    traceback = error.__traceback__ = without_ours(error.__traceback__, __file__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    try:
        sys.excepthook(type(error), error, traceback)
    except SystemExit as end:
        return ScriptEnd(_exit_status(end.code))
    except BaseException as second:  # noqa: BLE001  (anybody's hook)
        second.__context__ = None
        second.__traceback__ = second.__traceback__ and second.__traceback__.tb_next
        _print_error("Error in sys.excepthook:\n")
        sys.__excepthook__(type(second), second, second.__traceback__)
        _print_error("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, traceback)
    return ScriptEnd(1, signal.SIGINT if type(error) is KeyboardInterrupt else 0)


# --- the end --------------------------------------------------------------------------------------------------------------
def _finish(ending: ScriptEnd) -> ScriptEnd:
    """What an interpreter does at its end, in its order, but for taking apart what the application had loaded."""
    wait: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    try:
        # Its debugger sees this where a debugger loads threading; a fresh Python that has not loaded it has nothing to call.
        _debugger.with_it(wait) if sys.version_info >= (3, 14) else wait()
    except BaseException as error:  # noqa: BLE001  (Ctrl-C while a thread is waited for)
        _unraisable(error, _NOT_WAITED, threading)
    _debugger.with_it(atexit._run_exitfuncs)
    inherited.forget()
    failed = _flush()
    try:
        _dismantle()
    except BaseException:  # noqa: BLE001  (Ctrl-C while destructors run)
        pass
    failed = _flush(quiet=failed) or failed
    libc.flush_streams()
    return ScriptEnd(FLUSH_FAILED, ending.signal) if failed else ending


def _unraisable(error: BaseException, message: str | None, what: object) -> None:
    """Report an error that nobody can catch, as the interpreter does: by the script's own hook where it has set one."""
    error.__traceback__ = without_ours(error.__traceback__, __file__)
    named = None if sys.version_info >= (3, 13) else what
    try:
        hook = sys.unraisablehook
        hook(_hook_arguments()((type(error), error, error.__traceback__, message, named)))
    except BaseException:  # noqa: BLE001  (anybody's hook)
        return


def _hook_arguments() -> Callable[[tuple[Any, ...]], Any]:
    """The type of what ``sys.unraisablehook`` is given. It has no name at run time: only an error that is ignored shows it."""

    class Failing:
        def __del__(self) -> None:
            raise ValueError

    found: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, found.append
    try:
        Failing()
    finally:
        sys.unraisablehook = hook
    return type(found[0])


def _flush(*, quiet: bool = False) -> bool:
    """Write out what the streams hold; whether that failed."""
    failed = False
    for stream in (sys.stdout, sys.stderr):
        if stream is None or getattr(stream, "closed", False):
            continue
        try:
            stream.flush()
        except BaseException as error:  # noqa: BLE001  (a pipe that is closed, a disk that is full, a stream of anybody's)
            if stream is sys.stdout and not quiet:
                error.__traceback__ = None
                _unraisable(error, _NOT_FLUSHED, stream)
            failed = True
    return failed


def _dismantle() -> None:
    """Let go of what the script made, so that its destructors run and its files are written."""
    sys.last_type = sys.last_value = sys.last_traceback = None
    files.flush()  # the collector may close what a file writes through before the file itself
    if threading.active_count() > 1:
        return  # threads that are daemons still run, in a fresh Python they are frozen here
    _see_errors_as_at_an_end()
    gc.collect()  # twice, as an interpreter does: who is of this script's modules outlives the first, and comes in another order
    fresh = list(itertools.takewhile(lambda name: name != "__main__", reversed(sys.modules)))
    own = [name for name in fresh if name.partition(".")[0] not in sys.stdlib_module_names]
    kept = [
        weakref.ref(module) for name in ["__main__", *own] if isinstance(module := sys.modules.pop(name, None), types.ModuleType)
    ]
    module = None
    gc.collect()
    for reference in kept:
        module = reference()  # somebody of the application's refers to it
        if module is not None:
            _clear(vars(module))


def _see_errors_as_at_an_end() -> None:
    """What destructors raise is reported without the line of ours that called them: when an interpreter ends there is none."""
    hook = sys.unraisablehook

    def reported(what: Any) -> None:
        fields = (what.exc_type, what.exc_value, without_ours(what.exc_traceback, __file__), what.err_msg, what.object)
        hook(type(what)(fields))

    sys.unraisablehook = reported


def _clear(names: dict[str, Any]) -> None:
    """As ``_PyModule_ClearDict`` does: what begins with one underscore first."""
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and (name.startswith("_") and not name.startswith("__")) is private:
                names[name] = None


def _let_go() -> None:
    """Nobody who reads what the script wrote is to wait for this process."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        if number != null:
            os.dup2(null, number)
    if null > 2:
        os.close(null)
