"""``rocksyd exec``: a script in a warm worker, as if it had been started here.

What must live here: the caller's side of an exec (``master/desk/script_callers.py`` has the daemon's,
``worker/script.py`` the worker's).
What this file must not know: what is run.

The worker has this process's own descriptors, so nothing passes through here but signals, and at the end the exit status. It is
the launcher where the compiled one (``launcher/rocksyd-exec.c``) is not there: what one of them does, the other does. Each module
that is imported is time that the script does not run, so it is as few as can be.
"""

import _socket
import os
import sys

from rocksyd.errors import AddressError, ConfigError, NoDaemon
from rocksyd.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn
else:
    import _signal

UNAVAILABLE, USAGE, LOST = 69, 2, 255
PATIENCE = 30.0
"""Seconds in which a daemon that closes connections is tried again."""
PAUSE = 0.05
_FORWARDED = (
    _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGCONT,
    _signal.SIGTSTP, _signal.SIGWINCH,
)  # fmt: skip
_HARMLESS = (_signal.SIGCONT, _signal.SIGWINCH)
"""Signals that end nobody who does not wait for them."""
_RIGHTS = _socket.CMSG_SPACE(16)
USAGE_TEXT = (
    "usage: rocksyd exec [--app APP] [--priority N] [--address unix://PATH] [--] SCRIPT | -m MODULE | -c COMMAND [ARG...]"
)


class _UsageError(Exception):
    """The arguments cannot be used; the text says how."""


def exec_script(words: "list[str]", address: "str | None" = None) -> int:
    """Run what ``words`` (behind ``rocksyd exec``) say. Returns an exit status, or ends this process as the script ended."""
    try:
        options, argv = _options(words)
        path = _find(options.get("address") or address)
        return ScriptHere(path, argv, options).run()
    except _UsageError as error:
        _say(f"{error}\n{USAGE_TEXT}")
        return USAGE
    except AddressError as error:
        _say(str(error))
        return USAGE
    except ConfigError as error:
        _say(str(error))
        return 1
    except NoDaemon as error:
        _say(str(error))
        return UNAVAILABLE


def _options(words: "list[str]") -> "tuple[dict[str, str], list[str]]":
    """The options of exec itself, and the command line that is left."""
    options: dict[str, str] = {}
    at = 0
    while at < len(words) and words[at].startswith("--"):
        name, equals, value = words[at][2:].partition("=")
        at += 1
        if not name and not equals:
            break
        if name not in ("app", "priority", "address"):
            raise _UsageError(f"exec has no option --{name}; what is for the script stands behind --")
        if not equals:
            if at == len(words):
                raise _UsageError(f"--{name} wants a value")
            value = words[at]
            at += 1
        options[name] = value
    if not options.get("priority", "0").lstrip("-").isdecimal():
        raise _UsageError(f"--priority wants a whole number, got {options['priority']!r}")
    return options, words[at:]


def _find(address: "str | None") -> str:
    """The path of the socket for callers. Raises AddressError, ConfigError, NoDaemon."""
    from rocksyd.client.endpoint import find

    place = find(address)
    if place.address.kind != "unix":
        raise AddressError(
            f"{place.address} is not on this machine for certain: exec passes descriptors, over a unix:// address only"
        )
    return f"{place.address.path}.exec"


class ScriptHere:
    """One script, from the order to its end."""

    def __init__(self, path: str, argv: "list[str]", options: "dict[str, str]") -> None:
        self._path = path
        self._opened = [number for number in (0, 1, 2) if _is_open(number)]
        self._ignored = [number for number in _FORWARDED if _signal.getsignal(number) == _signal.SIG_IGN]
        self._key = f"exec-{os.urandom(6).hex()}"
        self._argv = argv
        self._options = options
        self._pid = 0
        self._pidfd = -1
        self._wakeups = -1
        self._daemon: _socket.socket | None = None
        self._line: _socket.socket

    def run(self) -> int:
        """Order, pass signals on, and end as the script ended."""
        self._catch_signals()
        self._line, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        fds = [self._surroundings(), os.open(".", os.O_PATH | os.O_CLOEXEC), theirs.fileno(), *self._opened]
        reply = self._converse(lambda daemon: _send(daemon, b"exec 1", fds))
        word, _, rest = reply.partition(" ")
        if word == "refused":
            status, _, sentence = rest.partition(" ")
            _say(sentence)
            return int(status)
        theirs.close()
        os.close(fds[0])
        return self._attend()

    def _surroundings(self) -> int:
        umask = os.umask(0o077)
        os.umask(umask)
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""
        env = [name + b"=" + value for name, value in os.environb.items()]
        around = Surroundings(
            [os.fsencode(word) for word in self._argv], env, app=self._options.get("app", ""), key=self._key, cwd=cwd,
            umask=str(umask), opened="".join(map(str, self._opened)), ignored=" ".join(map(str, map(int, self._ignored))),
            priority=self._options.get("priority", "0"),
        )  # fmt: skip
        data = around.encode()
        fd = os.memfd_create("rocksyd-exec", os.MFD_CLOEXEC)
        while data:
            data = data[os.write(fd, data) :]
        return fd

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def _converse(self, say: "Callable[[_socket.socket], None]") -> str:
        """Say something until it is answered, whatever becomes of the master meanwhile. Raises NoDaemon.

        The socket outlives every restart and every crash of a master: where nobody can be reached, the service has ended.
        """
        waited = 0.0
        while waited < PATIENCE:
            daemon = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            try:
                daemon.connect(self._path)
            except OSError as error:
                raise _no_daemon(self._path, error) from None
            try:
                say(daemon)
                reply = daemon.recv(4096)
            except OSError:
                reply = b""
            if reply:
                self._daemon = daemon
                return reply.decode("utf-8", "replace")
            waited += PAUSE
            self._pause()
        raise NoDaemon(f"the daemon at {self._path} closes every connection; its log says why")

    def _pause(self) -> None:
        import select

        if select.select([self._wakeups], [], [], PAUSE)[0]:
            self._on_signals()

    # --- while it runs ------------------------------------------------------------------------------------------------
    def _attend(self) -> int:
        import select

        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(self._wakeups, select.POLLIN)
        line = self._line.fileno()
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if line in ready:
                word, number = self._hear()
                if word == "exit":
                    os._exit(number)
                elif word == "signal":
                    _die_of(number)
                elif word == "pid":
                    poll.register(self._pidfd, select.POLLIN)
                elif self._pid:
                    poll.unregister(line)  # the script has closed what it found, or executed something else
                else:
                    return self._ask()
            elif self._pidfd in ready:
                return self._ask()
            if self._wakeups in ready:
                self._on_signals()

    def _hear(self) -> "tuple[str, int]":
        """The next word of the worker, ("", 0) at the end of the line."""
        try:
            data, ancillary, _, _ = self._line.recvmsg(64, _RIGHTS, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return "", 0
        word, _, number = data.decode("ascii", "replace").partition(" ")
        if word == "pid":
            self._pid = int(number)
            self._pidfd = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else os.pidfd_open(self._pid)
        return word, int(number or 0)

    def _ask(self) -> int:
        """The script ended without a word: the daemon knows how, now or in a moment."""
        reply = b""
        try:
            if self._daemon is not None:
                reply = self._daemon.recv(4096)
        except OSError:
            pass
        text = reply.decode("utf-8", "replace")
        while not text.startswith(("ended", "unknown")):
            try:
                text = self._converse(lambda daemon: _send(daemon, f"ended {self._key}".encode(), []))
            except NoDaemon as error:
                _say(f"nobody knows how the script ended: {error}")
                return LOST
        word, status, number, sentence = [*text.split(" ", 3), "", "", ""][:4]
        if word == "unknown":
            _say(f"the daemon does not know how the script ended (run {self._key})")
            return LOST
        if sentence:
            _say(sentence)
        if int(number):
            _die_of(int(number))
        os._exit(int(status))

    # --- signals ------------------------------------------------------------------------------------------------------
    def _catch_signals(self) -> None:
        self._wakeups, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _FORWARDED:
            if number not in self._ignored:
                _signal.signal(number, _nothing)

    def _on_signals(self) -> None:
        for number in os.read(self._wakeups, 64):
            if number == _signal.SIGTSTP:
                self._stop()
            elif self._pid:
                self._forward(number)
            elif number not in _HARMLESS:
                _die_of(number)  # the daemon sees the end of the line, and cancels the run

    def _forward(self, number: int) -> None:
        try:
            os.kill(-self._pid, number)
        except OSError:
            return

    def _stop(self) -> None:
        """Ctrl-Z: the script first, so that it can put the terminal in order; and this one only if the script does stop."""
        if self._pid:
            self._forward(_signal.SIGTSTP)
            if not self._has_stopped():
                return
        _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGCONT,))
        os.kill(os.getpid(), _signal.SIGTSTP)  # goes on here after `fg` or `bg`
        _signal.sigtimedwait((_signal.SIGCONT,), 0)  # the script is to hear it once
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        _signal.signal(_signal.SIGTSTP, _nothing)
        if self._pid:
            self._forward(_signal.SIGCONT)

    def _has_stopped(self) -> bool:
        """Whether the script stops within a second; one that ignores the signal is not waited for."""
        import time

        until = time.monotonic() + 1.0
        bit = 1 << _signal.SIGTSTP - 1
        while time.monotonic() < until:
            try:
                with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as file:
                    lines = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            except OSError:
                return False
            if lines["State"].startswith("T"):
                return True
            if int(lines["SigIgn"], 16) & bit:
                return False
            time.sleep(0.002)
        return False


def _nothing(_number: int, _frame: object) -> None:
    """What counts is that the wakeup descriptor is written to."""


def _die_of(number: int) -> "NoReturn":
    """End as a process ends that a signal has killed; what would be left of this one is no core of interest."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _send(daemon: _socket.socket, data: bytes, fds: "list[int]") -> None:
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    daemon.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else [], _socket.MSG_NOSIGNAL)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _no_daemon(path: str, error: OSError) -> NoDaemon:
    return NoDaemon(f"no daemon answers at unix://{path} ({error.strerror}): start one with `rocksyd serve`")


def _say(text: str) -> None:
    try:
        os.write(2, f"rocksyd: {text}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        return
