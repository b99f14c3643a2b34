"""A script run for a caller who stays: everything from the caller's descriptors to its exit status, as a fresh Python would.

What must live here: the order in which an interpreter that is started with a script does things, and says how it ended.
What this file must not know: the master, results, workers.

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
import io
import itertools
import os
import runpy
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd import surroundings
from rocksyd.posix import libc, signals
from rocksyd.posix.channel import read_memfd
from rocksyd.surroundings import Surroundings
from rocksyd.worker import console, deadline, stacks, stdio

KIND = "script"
"""Of an order to a worker that is for this module."""
SURROUNDINGS, FOLDER, LINE, FIRST_STREAM = 0, 1, 2, 3
HANGUP = 128 + signal.SIGHUP
FLUSH_FAILED = 120
"""Exit status of a Python that could not write out what it held (``Py_RunMain``)."""
_USAGE = 2


class Ending(NamedTuple):
    """How a script ended."""

    status: int = 0
    signal: int = 0
    """The signal that the caller is to die of, as a Python does at KeyboardInterrupt."""


class Unstarted(Exception):
    """The script cannot be begun; the message says why."""


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Order(NamedTuple):
    """What a command line asks Python to run."""

    kind: str
    """``file``, ``package`` (a folder or an archive with a ``__main__``), ``module``, ``command`` or ``stdin``."""
    what: str
    argv: list[str]
    unbuffered: bool = False
    interactive: bool = False


class Line:
    """The worker's end of the line to the caller."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._identity = _identity(fd)
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
        return self._socket.fileno() >= 0 and _identity(self._socket.fileno()) == self._identity

    def say(self, ending: Ending) -> None:
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


def run(fds: tuple[int, ...], path: str, began: Callable[[], None]) -> Ending:
    """Run the script for the caller whose descriptors these are, in the application whose folder is ``path``.

    Never raises. A child that the script has forked and let come back ends here.
    """
    if len(fds) < FIRST_STREAM:
        return Ending(HANGUP)
    pid = os.getpid()
    line = Line(fds[LINE])
    try:
        line.open()
    except OSError:
        return Ending(HANGUP)
    try:
        around = surroundings.decode(read_memfd(fds[SURROUNDINGS]))
        _enter(around, fds)
        order = parse(around.argv)
        _prepare(order, around, path)
        began()
        ending = _finish(_execute(order))
    except Unstarted as error:
        _complain(str(error))
        ending = Ending(_USAGE)
    except KeyboardInterrupt:  # before the script has begun, or after its end
        ending = Ending(1, signal.SIGINT)
    except (OSError, ValueError) as error:
        _complain(f"rocksyd exec: the script's surroundings cannot be had: {error}")
        ending = Ending(_USAGE)
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


def _end_child(ending: Ending) -> None:
    if ending.signal:
        signal.signal(ending.signal, signal.SIG_DFL)
        os.kill(os.getpid(), ending.signal)
    os._exit(ending.status)


# --- the caller's surroundings --------------------------------------------------------------------------------------------
def _enter(around: Surroundings, fds: tuple[int, ...]) -> None:
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


def parse(argv: list[bytes]) -> Order:
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
                return Order(kind, what, [f"-{letter}", *words], unbuffered, interactive)
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
        return Order(kind, words[0], words, unbuffered, interactive)
    return Order("stdin", "", words or [""], unbuffered, interactive)


def _prepare(order: Order, around: Surroundings, path: str) -> None:
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


def _script_folder(order: Order) -> str | None:
    """``sys.path[0]``; None where there is none."""
    if order.kind in ("file", "package"):
        try:
            real = os.path.realpath(order.what)
        except OSError:  # a relative name in a folder that has been removed
            return None
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
    except OSError:
        return
    names = [name for name in found if name in sys.modules and name not in sys.stdlib_module_names and name != "rocksyd"]
    inside = os.path.realpath(folder) if names else ""
    for name in names:
        spec = importlib.machinery.PathFinder.find_spec(name, [folder])
        file = getattr(sys.modules[name], "__file__", None)
        if spec is None or spec.origin is None or file is None or os.path.realpath(file).startswith(inside + "/"):
            continue
        for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[loaded]


# --- running --------------------------------------------------------------------------------------------------------------
def _execute(order: Order) -> Ending:
    """Run what is ordered as ``__main__``; an uncaught exception is printed as Python prints it, without frames of ours."""
    sys.modules.pop("__main__", None)
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # the last one, so that the script's own stand behind it
    ending = _observed(lambda: _start(order, main.__dict__))
    if order.interactive or (order.kind == "stdin" and sys.stdin is not None and sys.stdin.isatty()):
        again = _observed(lambda: console.interact(sys.modules["__main__"].__dict__, banner=order.kind == "stdin"))
        return again if order.kind == "stdin" or again.status else ending
    return ending


def _start(order: Order, names: dict[str, Any]) -> None:
    names["__builtins__"] = sys.modules["builtins"]
    names["__annotations__"] = {}
    names["__loader__"] = importlib.machinery.BuiltinImporter
    if order.kind == "module":
        loaded = sys.modules.get(order.what)
        if loaded is not None and not hasattr(loaded, "__path__"):
            del sys.modules[order.what]  # it is run anew, as __main__; runpy would warn of the one that is loaded
        _run_module(order.what, True)
    elif order.kind == "command":
        _run_code(compile(order.what + "\n", "<string>", "exec", dont_inherit=True), names)
    elif order.kind == "file":
        _run_file(order.what, names)
    elif order.kind == "package":
        _run_module("__main__", False)
    elif sys.stdin is not None and not sys.stdin.isatty():
        names["__file__"], names["__cached__"] = "<stdin>", None
        _run_code(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), names)


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
    _run_code(compile(source, shown, "exec", dont_inherit=True), names)


# A debugger that the script has set traces its callers, too: on one line, nothing of ours is stepped into.
def _run_code(code: types.CodeType, names: dict[str, Any]) -> None:
    (exec(code, names), sys.settrace(None))  # type: ignore[func-returns-value]


def _run_module(name: str, alter_argv: bool) -> None:
    (runpy._run_module_as_main(name, alter_argv), sys.settrace(None))  # type: ignore[attr-defined,func-returns-value]


def _observed(call: Callable[[], Any]) -> Ending:
    try:
        call()
    except SystemExit as error:
        return Ending(_exit_status(error.code))
    except Unstarted:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a script raises, it ends the script)
        return _uncaught(error)
    return Ending()


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


def _uncaught(error: BaseException) -> Ending:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    try:
        sys.excepthook(type(error), error, traceback)
    except SystemExit as end:
        return Ending(_exit_status(end.code))
    except BaseException as second:  # noqa: BLE001  (anybody's hook)
        second.__context__ = None
        second.__traceback__ = second.__traceback__ and second.__traceback__.tb_next
        _print_error("Error in sys.excepthook:\n")
        sys.__excepthook__(type(second), second, second.__traceback__)
        _print_error("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, traceback)
    return Ending(1, signal.SIGINT if type(error) is KeyboardInterrupt else 0)


# --- the end --------------------------------------------------------------------------------------------------------------
def _finish(ending: Ending) -> Ending:
    """What an interpreter does at its end, in its order, but for taking apart what the application had loaded."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException as error:  # noqa: BLE001  (Ctrl-C while a thread is waited for)
        _unraisable(error, threading)
    atexit._run_exitfuncs()
    failed = _flush()
    try:
        _dismantle()
    except BaseException:  # noqa: BLE001  (Ctrl-C while destructors run)
        pass
    failed = _flush(quiet=failed) or failed
    libc.flush_streams()
    return Ending(FLUSH_FAILED, ending.signal) if failed else ending


def _unraisable(error: BaseException, what: object) -> None:
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    try:
        arguments: Any = sys.UnraisableHookArgs
        sys.unraisablehook(arguments((type(error), error, error.__traceback__, None, what)))
    except BaseException:  # noqa: BLE001  (anybody's hook)
        return


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
                _unraisable(error, stream)
            failed = True
    return failed


def _dismantle() -> None:
    """Let go of what the script made, so that its destructors run and its files are written."""
    sys.last_type = sys.last_value = sys.last_traceback = None
    if threading.active_count() > 1:
        _flush_files()  # threads that are daemons still run, in a fresh Python they are frozen here
        return
    fresh = list(itertools.takewhile(lambda name: name != "__main__", reversed(sys.modules)))
    own = [name for name in fresh if name.partition(".")[0] not in sys.stdlib_module_names]
    kept = [
        weakref.ref(module) for name in ["__main__", *own] if isinstance(module := sys.modules.pop(name, None), types.ModuleType)
    ]
    module = None
    _flush_files()  # the collector may close what a file writes through before the file itself
    gc.collect()
    for reference in kept:
        module = reference()  # somebody of the application's refers to it
        if module is not None:
            _clear(vars(module))


def _clear(names: dict[str, Any]) -> None:
    """As ``_PyModule_ClearDict`` does: what begins with one underscore first."""
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and (name.startswith("_") and not name.startswith("__")) is private:
                names[name] = None


def _flush_files() -> None:
    for found in gc.get_objects():
        if isinstance(found, (io.TextIOWrapper, io.BufferedWriter)):
            try:
                found.flush()
            except (OSError, ValueError):
                continue


def _let_go() -> None:
    """Nobody who reads what the script wrote is to wait for this process."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        if number != null:
            os.dup2(null, number)
    if null > 2:
        os.close(null)
