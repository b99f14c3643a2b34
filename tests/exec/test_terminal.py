"""At a terminal a warm script is what a cold one is: size, keys, job control, full-screen programs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.exec.stage import CLIENT, POOL, launcher
from tests.exec.terminal import Terminal

INTERRUPT, QUIT, STOP, END = "\x03", "\x1c", "\x1a", "\x04"
ROUNDS = 20
"""Of stopping and going on: a signal too many is often one with the right one, before the script is awake."""

SCRIPTS = {
    "size": """
import os, signal, sys, time
print([os.isatty(n) for n in (0, 1, 2)], os.get_terminal_size(), sys.stdout.line_buffering, os.ttyname(0) == os.ttyname(1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print("ready")
signal.sigwait([signal.SIGWINCH])
print(os.get_terminal_size())
""",
    "interrupt": """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready")
while signal.SIGINT not in signal.sigpending():
    time.sleep(0.01)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
""",
    "caught": """
import subprocess, sys, time
CHILD = (
    "import os, time\\ntry:\\n os.write(1, b'.\\\\n')\\n time.sleep(60)\\n"
    "except KeyboardInterrupt:\\n os.write(2, b'child interrupted\\\\n')"
)
child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
try:
    child.stdout.readline()
    print("ready")
    child.wait()
except KeyboardInterrupt:
    child.wait()
    print("caught")
""",
    "stop": """
import signal
signal.signal(signal.SIGUSR1, lambda *_: None)
print("ready")
while True:
    line = input("> ")
    print("read", line)
    if line == "end":
        break
""",
    "handles stop": """
import os, select, signal
def say(text):
    os.write(1, text.encode() + b"\\n")  # print() raises when a handler calls it while print() writes
def stop(*_):
    say("stopping")
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, stop)
    say("going on")
signal.signal(signal.SIGTSTP, stop)
say("ready")
while not select.select([0], [], [], 0.05)[0]:
    pass  # a signal just before input() begins to read would only be handled when there is something to read
print("read", input())
""",
    "counts": """
import os, select, signal
heard = []
def going_on(*_):
    heard.append(1)
    os.write(1, b"continued %d\\n" % len(heard))
signal.signal(signal.SIGCONT, going_on)
print("ready")
while not select.select([0], [], [], 0.05)[0]:
    pass
print("read", input())
""",
    "ignores stop": """
import signal
signal.signal(signal.SIGTSTP, signal.SIG_IGN)
print("ready")
print("read", input())
""",
    "lines": """
import readline
print("read", repr(input("one> ")), repr(input("two> ")))
""",
    "password": """
import getpass
print("ready")
print(len(getpass.getpass("Secret: ")))
""",
    "debug": """
def work(number):
    breakpoint()
    return number + 1
print(work(1))
""",
    "screen": """
import curses, os
def main(screen):
    curses.curs_set(0)
    shown = screen.getmaxyx()
    screen.timeout(50)  # a signal between two keys is noticed by curses only when it reads again
    screen.addstr(2, 4, f"{curses.COLS}x{curses.LINES}")
    screen.refresh()
    while (key := screen.getch()) != ord("q"):
        if key == curses.KEY_RESIZE:
            columns, lines = os.get_terminal_size()  # what curses itself knows is now and then older than this key
            if (lines, columns) == shown:
                continue
            shown = lines, columns
            curses.resizeterm(lines, columns)
            screen.clear()
            screen.addstr(1, 1, "resized %dx%d" % screen.getmaxyx())
        elif key != -1:
            screen.addstr(4, 4, f"key {key}")
        screen.refresh()
curses.wrapper(main)
print("left")
""",
    "prompt": """
import code, sys
sys.ps1 = "in> "
code.interact("welcome", exitmsg="bye")
""",
}


def size(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    terminal.resize(40, 132)
    return terminal.heard()


def interrupt(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    terminal.type(INTERRUPT)
    return terminal.heard()


def quits(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    terminal.type(QUIT)
    return terminal.heard()


def stop(terminal: Terminal) -> str:
    terminal.wait("> ")
    said = ""
    for word in ("one", "two"):
        terminal.type(STOP)
        said += terminal.heard()
        terminal.go_on()
        terminal.type(f"{word}\r")
        terminal.wait(f"read {word}\r\n> ")
    terminal.type("end\r")
    return said + terminal.heard()


def handles_stop(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    terminal.type(STOP)
    terminal.wait("stopping")
    said = terminal.heard()
    terminal.go_on()
    terminal.wait("going on\r\n")
    terminal.type("x\r")
    return said + terminal.heard()


def counts(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    said = ""
    for number in range(1, ROUNDS + 1):
        terminal.type(STOP)
        said = terminal.heard()
        terminal.go_on()
        terminal.wait(f"continued {number}\r\n")
    terminal.type("x\r")
    return said + terminal.heard()


def ignores_stop(terminal: Terminal) -> str:
    terminal.wait("ready\r\n")
    terminal.type(STOP + "x\r")
    return terminal.heard()


def lines(terminal: Terminal) -> str:
    terminal.wait("one> ")
    terminal.type("hello\x01X\x1b[C\x0bY\r")  # Home, a letter, right, kill the rest, another
    terminal.wait("two> ")
    terminal.type("\x1b[A\x7fZ\r")  # up: the line before; backspace
    return terminal.heard()


def password(terminal: Terminal) -> str:
    terminal.wait("Secret: ")
    terminal.type("geheim\r")
    return terminal.heard()


def debug(terminal: Terminal) -> str:
    terminal.wait("(Pdb) ")
    for keys in ("p number\r", "up\r", "down\r", "n\r"):
        terminal.type(keys)
        terminal.wait("(Pdb) ")
    terminal.type("c\r")
    return terminal.heard()


def screen(terminal: Terminal) -> str:
    terminal.wait("80x24")
    terminal.type("k")
    terminal.wait("107")
    terminal.resize(30, 100)
    terminal.wait("30x100")
    terminal.type("q")
    terminal.wait("left")
    return terminal.heard()


def prompt(terminal: Terminal) -> str:
    terminal.wait("in> ")
    for keys in ("x = 6 * 7\r", "x\r", "1/0\r"):
        terminal.type(keys)
        terminal.wait("in> ")
    terminal.type(END)
    return terminal.heard()


PLAYS: dict[str, tuple[str, Callable[[Terminal], str], str]] = {
    "its size, and a new one": ("size", size, "ended 0"),
    "Ctrl-C": ("interrupt", interrupt, "ended -2"),
    "Ctrl-C for the script and its child": ("caught", interrupt, "ended 0"),
    "Ctrl-\\": ("interrupt", quits, "ended -3"),
    "Ctrl-Z and fg, twice": ("stop", stop, "stopped 20stopped 20ended 0"),
    "Ctrl-Z with a handler": ("handles stop", handles_stop, "stopped 20ended 0"),
    "Ctrl-Z ignored": ("ignores stop", ignores_stop, "ended 0"),
    "keys of a line editor": ("lines", lines, "ended 0"),
    "a secret": ("password", password, "ended 0"),
    "a debugger": ("debug", debug, "ended 0"),
    "a full screen": ("screen", screen, "ended 0"),
    "a prompt": ("prompt", prompt, "ended 0"),
    "fg is heard once": ("counts", counts, "stopped 20ended 0"),
    "fg is heard once, by the other client": ("counts", counts, "stopped 20ended 0"),
}


@pytest.mark.parametrize("part", range(4))
def test_a_terminal_shows_the_same_cold_and_warm(part: int, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        warm = (part % 2 and launcher(tmp_path)) or CLIENT
        for name in list(PLAYS)[part::4]:
            script, play, end = PLAYS[name]
            path = tmp_path / "script.py"
            path.write_text(SCRIPTS[script])
            shown = []
            for python in (sys.executable, warm):
                with Terminal(f"{python} script.py", tmp_path, daemon) as terminal:
                    assert play(terminal) == end, (name, python, terminal.text)
                    shown.append(terminal.transcript(tmp_path))
            assert shown[1] == shown[0], name


@pytest.mark.parametrize("compiled", [False, True])
def test_a_terminal_that_is_closed_hangs_up_on_the_script(tmp_path: Path, compiled: bool) -> None:
    (tmp_path / "script.py").write_text(SCRIPTS["interrupt"])
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        warm = (compiled and launcher(tmp_path)) or CLIENT
        with Terminal(f"{warm} script.py", tmp_path, daemon) as terminal:
            terminal.wait("ready\r\n")
        (run,) = daemon.talk().rpc("list")
        record = daemon.talk().rpc("wait", key=run["key"])
        assert record["signal"] == signal.SIGHUP, record


@pytest.mark.parametrize("compiled", [False, True])
def test_a_stopped_script_goes_on_in_the_background(tmp_path: Path, compiled: bool) -> None:
    (tmp_path / "script.py").write_text(
        "import os, signal, sys\nsignal.signal(signal.SIGCONT, lambda *_: (os.write(1, b'going on'), sys.exit(3)))\n"
        "print('ready')\nwhile True:\n    signal.pause()\n"
    )
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        warm = (compiled and launcher(tmp_path)) or CLIENT
        with Terminal(f"{warm} script.py", tmp_path, daemon) as terminal:
            terminal.wait("ready\r\n")
            (run,) = daemon.talk().rpc("list")
            terminal.type(STOP)
            assert terminal.heard() == "stopped 20"
            until(lambda: "T (stopped)" in Path(f"/proc/{run['pid']}/status").read_text(), "the script to be stopped")
            assert os.getpgid(run["pid"]) == run["pid"]
            terminal.go_on(foreground=False)
            assert terminal.heard() == "ended 3", terminal.text
            terminal.wait("going on")
