"""A crontab as scripts: what each of its lines becomes, and what of it could not be carried over.

What must live here: the syntax of a crontab's lines, and the tables that are written.
What this file must not know: files, users of this machine, the daemon.

Sources: crontab(5) of Debian's cron (environment lines, ``%``, ``@reboot``, the form with a user), of cronie (``CRON_TZ``,
``RANDOM_DELAY``, ``-`` before the minute).
"""

from __future__ import annotations

import json
import re
import shlex
from typing import NamedTuple

from rocksyd.schedule.cron import Cron, CronError
from rocksyd.ticks import NAME_MOST

_SETTING = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|'[^']*'|\"[^\"]*\")\s*=\s*(.*?)\s*$")
_FLOCK = re.compile(r"(?:/usr/bin/)?flock\s+(?:-n|-xn|-nx|--nonblock|--nb)\s+(\S+)\s+(?!-)(.+)$", re.DOTALL)
_CALM = re.compile(r"[A-Za-z0-9_@%+=:,./ -]*")
"""What no shell is needed for."""
_END = "ROCKSYD_INPUT"
_FOR_CRON = ("MAILTO", "MAILFROM", "SHELL", "CRON_TZ", "RANDOM_DELAY")
"""Settings that cron itself heeds."""
_DELAY_MOST = 1440
"""Minutes of a day."""
_RUNNERS = {
    "bash": "", "chronic": "", "env": "u", "flock": "wE", "ionice": "cn", "nice": "n", "node": "r", "perl": "I", "php": "dc",
    "python": "WX", "ruby": "I", "sh": "", "sudo": "ugh", "time": "", "timeout": "sk",
}  # fmt: skip
"""Programs that run another one, with their options that a word follows; versions of them (``python3``) are the same."""
_WITH_FIRST = {"flock", "timeout"}
"""Those whose first word is of their own: a lock, a time."""
_BEFORE = {".", "[", "cd", "command", "exit", "export", "false", "set", "sleep", "source", "test", "true", "ulimit", "umask"}
"""What stands before a command and is not what the line is for."""
_WORDS_BETWEEN = {"{", "}", "if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!"}
_INTO = {">", ">>", ">|", "&>", "&>>"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What no comment of TOML may have in it."""
_SUBSTITUTED = re.compile(r"\$\([^()]*\)|`[^`]*`")
_OPERATOR = re.compile(r"[();<>|&]+")


class Imported(NamedTuple):
    """One line of a crontab."""

    number: int
    """Of the line in the file."""
    line: str
    name: str = ""
    """Of the script; "" for a line that became none."""
    cron: str = ""
    timezone: str = ""
    jitter: str = ""
    """A duration."""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    """What could not be carried over, in sentences."""


def read(text: str, *, system: bool = False) -> list[Imported]:
    """The lines of a crontab that run something. ``system``: they name a user behind the times (/etc/crontab, /etc/cron.d)."""
    found: list[Imported] = []
    env: dict[str, str] = {}
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            env[_unquoted(setting[1])] = _unquoted(setting[2])
            continue
        found.append(_job(number, stripped, env, names, system=system))
    return found


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _job(number: int, line: str, env: dict[str, str], names: set[str], *, system: bool) -> Imported:
    fields = (1 if line.startswith("@") else 5) + system
    words = line.split(None, fields)
    if len(words) <= fields:
        return Imported(number, line, notes=("it is no line of a crontab: there is no command behind the times",))
    cron, command = " ".join(words[: fields - system]).removeprefix("-"), words[fields]  # cronie: "-" keeps it out of its log
    if cron.lower() == "@reboot":
        return Imported(
            number, line, notes=("@reboot is no time: start it as a service of the system (systemd), or with the daemon",)
        )
    try:
        Cron(cron)
    except CronError as error:
        return Imported(number, line, notes=(f"{error}",))
    notes = []
    if system:
        notes.append(f"it ran as {words[fields - 1]}: here it runs as the user of its pool (`user` in [apps.NAME.pool])")
    text, given = _without_percent(command)
    parsed = _Parsed(text)
    if env.get("MAILTO") and not parsed.silent:
        notes.append(f"its output was mailed to {env['MAILTO']}: here it is kept, `rocksyd logs KEY` shows it")
    lock = _FLOCK.match(text)
    if lock is not None and not re.search(r"[|&;<>()]", lock[2]):
        text = lock[2]
        notes.append(f'the lock {lock[1]} was left out: overlap = "skip", the default, does the same')
    if parsed.to_file:
        notes.append("its output goes to its file as before, as far as it is redirected: `rocksyd logs` shows the rest")
    if parsed.relative:
        notes.append(f"{parsed.relative} was looked for in the home folder of its user, and now is in the application's `path`")
    kept = {name: value for name, value in env.items() if name not in _FOR_CRON}
    delay = env.get("RANDOM_DELAY", "")
    shell = env.get("SHELL", "/bin/sh")
    name = _unused(_Parsed(text).program, names)
    jitter = f"{delay}m" if delay.isascii() and delay.isdigit() and 0 < int(delay) <= _DELAY_MOST else ""
    return Imported(number, line, name, cron, env.get("CRON_TZ", ""), jitter, _words(text, given, shell), kept, tuple(notes))


def _without_percent(command: str) -> tuple[str, str | None]:
    """The command, and what it reads: ``%`` ends the command and each line behind it, ``\\%`` is one."""
    parts = re.split(r"(?<!\\)%", command)
    text, *given = (part.replace("\\%", "%") for part in parts)
    return text.strip(), "\n".join(given) if given else None


def _words(text: str, given: str | None, shell: str) -> tuple[str, ...]:
    if given is not None:
        body = given if given.endswith("\n") or not given else f"{given}\n"  # as cron does it: no empty line behind a last %
        return (shell, "-c", f"{{ {text}\n}} <<'{_END}'\n{body}{_END}\n")
    if _CALM.fullmatch(text) and "=" not in text.split(maxsplit=1)[0]:
        return tuple(text.split())
    return (shell, "-c", text)


class _Parsed:
    """A command line of a shell, as far as words and operators go."""

    def __init__(self, text: str) -> None:
        lexer = shlex.shlex(_SUBSTITUTED.sub("_", text), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        try:
            words = list(lexer)
        except ValueError:  # a quote without its other one: the shell will say so
            words = text.split()
        self.commands: list[list[str]] = [[]]
        self.to_file = False
        """Whether anything is redirected to a file."""
        target = False
        for word in words:
            if target:
                self.to_file = self.to_file or word != "/dev/null"
                target = False
            elif word in _INTO or word in (">&", "<"):
                if self.commands[-1] and self.commands[-1][-1].isdigit():
                    self.commands[-1].pop()  # of 2>
                target = word in _INTO
            elif _OPERATOR.fullmatch(word) or (word in _WORDS_BETWEEN and not self.commands[-1]):
                self.commands.append([])
            else:
                self.commands[-1].append(word)
        self.commands = [command for command in self.commands if command]
        whole = text.startswith("(") or sum(command[0] != "cd" for command in self.commands) == 1
        self.silent = whole and re.search(r"(>>?\s*\S+\s+2>&1|&>>?\s*\S+)\s*$", text) is not None
        """Whether cron had nothing to mail: all output goes elsewhere."""

    @property
    def relative(self) -> str:
        """What it begins with, where that is relative to the folder it is run in; else ""."""
        first = self.commands[0] if self.commands else [""]
        path = first[1] if first[0] == "cd" and len(first) > 1 else first[0] if "/" in first[0] else "/"
        return "" if path[:1] in ("", *"/~$-") or "=" in path else path

    @property
    def program(self) -> str:
        """The name of the program that the line is for; "" where none can be seen."""
        names = [found for command in self.commands if (found := _program(command))]
        return next((name for name in names if name not in _BEFORE), names[0] if names else "")


def _program(words: list[str]) -> str:
    """What one command runs, behind the programs that only run others."""
    words = [word for word in words if not re.match(r"[A-Za-z_]\w*=", word)]
    name = ""
    while words:
        name = words.pop(0).rsplit("/", 1)[-1]
        runner = re.sub(r"[0-9.]+$", "", name)
        if runner not in _RUNNERS:
            break
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if option in ("-c", "-e") and runner not in ("ionice", "php"):
                return "sleep" if "".join(words[:1]).lstrip().startswith("sleep") else name
            if len(option) == 2 and option[1] in _RUNNERS[runner] and words:
                words.pop(0)
        if runner in _WITH_FIRST and words:
            words.pop(0)
        if runner == "flock" and words[:1] == ["-c"]:
            return _Parsed(words[1]).program if len(words) > 1 else name
    operands = [word for word in words if not word.startswith("-")]
    return operands[0] if operands and name in ("manage.py", "artisan", "console", "magento") else name


def _unused(program: str, names: set[str]) -> str:
    """A name for the script, from that of its program; never the same twice."""
    plain = re.sub(r"\.(sh|py|pl|php|rb)$", "", program.lower())
    base = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-")[: NAME_MOST - 4] or "script"
    name, number = base, 1
    while name in names:
        number += 1
        name = f"{base}-{number}"
    names.add(name)
    return name


def written(lines: list[Imported], app: str = "") -> str:
    """The tables for ``rocksyd.toml``; what became no script is there as a comment."""
    parts = []
    for one in lines:
        text = [f"# {_CONTROL.sub(_escaped, said)}" for said in (f"line {one.number}: {one.line}", *one.notes)]
        if one.name:
            text += [f"[scripts.{one.name}]", f"command = {_value(list(one.command))}", f"cron = {_value(one.cron)}"]
            text += [f"timezone = {_value(one.timezone)}"] if one.timezone else []
            text += [f"jitter = {_value(one.jitter)}"] if one.jitter else []
            text += [f"app = {_value(app)}"] if app else []
            inside = ", ".join(f"{json.dumps(name)} = {_value(value)}" for name, value in one.env.items())
            text += [f"env = {{ {inside} }}"] if inside else []
        parts.append("\n".join(text) + "\n")
    return "\n".join(parts)


def _escaped(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def _value(value: str | list[str]) -> str:
    """As TOML writes it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
