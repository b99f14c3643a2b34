"""A command line does the same with a fresh Python and in a warm worker: output, exit status, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.exec.stage import CLIENT, POOL, Seen, launcher, seen

JOBS = "import json\nimport namesake\nimport sibling_of_the_application\n"
PYTHON = "python"

COMMAND_LINES = {
    "arguments": "$P args.py a 'b c' '' --flag -x",
    "a script in another folder": "cd sub && $P ../args.py && $P ./../args.py",
    "an absolute path": "$P $PWD/args.py",
    "a symbolic link": "ln -s ../args.py sub/link.py && $P sub/link.py",
    "no such script": "$P missing.py",
    "a command": "$P -c 'import sys; print(sys.argv, repr(sys.path[0]), sorted(globals()))' a b",
    "a command that fails": "$P -c 'x = 1; x.y'",
    "a command with a syntax error": "$P -c 'x ='",
    "a script from standard input": "$P - a b < args.py; $P < ends.py; echo 'import sys; print(sys.argv)' | $P",
    "a module": "$P -m json.tool < data.json",
    "a module that fails": "$P -m json.tool missing.json",
    "no such module": "$P -m no_such_module; $P -m os.no_such",
    "a module of this folder": "cd sub && $P -m pkg.tool a; $P -m pkg",
    "an exception in a module": "cd sub && $P -m pkg.tool fail; echo $?; $P -m pkg.tool interrupt; echo $?",
    "a folder": "$P folder a",
    "an archive": "(cd folder && $P -m zipfile -c ../made.zip *.py) && $P made.zip a; rm made.zip",
    "a pipe in front": "echo 1 2 | $P -c 'import sys; print(sum(map(int, sys.stdin.read().split())))'",
    "a pipe behind": "$P lines.py 20000 | head -1; echo ${PIPESTATUS[@]}",
    "a reader that left": "$P lines.py 20000 | true; echo ${PIPESTATUS[1]}",
    "input": "printf 'one\\ntwo\\n' | $P -c 'print(input(\"? \"), input())'; $P -c 'input()' < /dev/null",
    "what is left of standard input": "printf 'one\\ntwo\\n' > in; ($P -c 'import os; os.read(0, 4)'; cat) < in",
    "streams": "$P streams.py < /dev/null | cat; $P -u streams.py | cat; PYTHONUNBUFFERED=1 $P streams.py | cat; cat seen",
    "closed streams": "$P streams.py <&-; $P streams.py >&-; $P streams.py 2>&-; $P streams.py <&- >&- 2>&-; cat seen",
    "streams in other locales": "for l in C C.UTF-8 POSIX; do LC_ALL=$l $P streams.py; done; "
    "PYTHONUTF8=0 LC_ALL=C $P streams.py; "
    "PYTHONUTF8=1 LANG=C $P streams.py; cat seen",
    "another encoding": "PYTHONIOENCODING=latin-1:replace $P lines.py 2; PYTHONIOENCODING=:ignore $P streams.py; cat seen",
    "a full disk": "$P -c 'print(1)' > /dev/full; echo $?; $P late.py hook > /dev/full; echo $?; $P -m pkg > /dev/full; echo $?",
    "a full disk at once": "for u in '' 1; do PYTHONUNBUFFERED=$u $P -uc 'print(1)' > /dev/full; echo $?; done; "
    "PYTHONUNBUFFERED=1 $P -c 'print(1)' > /dev/full; echo $?",
    "nowhere to complain": "$P -c 'print(1)' > /dev/full 2>&1; echo $?; $P -c '1 / 0' 2> /dev/full; echo $?",
    "an interrupt at the end": "for how in interrupt 'interrupt hook'; do $P late.py \"$how\" 2>&1 | grep -v '^  '; "
    "echo ${PIPESTATUS[0]}; done",
    "the environment": "FOO='a b=ü' EMPTY= RAW=$'\\xff' TZ=Asia/Tokyo $P env.py",
    "hardly an environment": "env -i A=1 $P env.py 2>&1 | grep -v ROCKSYD",
    "the mask": "umask 027; $P -c 'open(\"made\", \"w\").close()'; stat -c %a made",
    # Without the marks below a line: from Python 3.13 on a module makes them, which a fresh one cannot import from there.
    "a folder that is gone": "echo 'import sys; print(sys.path[0])' > here.py; mkdir gone; cd gone; rmdir ../gone; "
    "$P -c 'import sys; print(sys.path[0] or 0)'; $P ../here.py; $P ../args.py 2>&1 | grep -v '^[ ~^]*$'",
    "ignored signals": "trap '' HUP INT; $P signals.py",
    "signals": "$P signals.py",
    "tracebacks": "for how in chained odd group note eval last; do $P broken.py $how; echo $?; done",
    "hooks": "for how in hook 'bad hook' 'exit in hook'; do $P broken.py \"$how\"; echo $?; done",
    "an interrupt": "$P broken.py interrupt; echo $?",
    "recursion": "$P broken.py recursion",
    "an import that fails": "$P broken.py import; $P syntax.py; echo $?",
    "modules beside the script": "$P siblings.py",
    "exit statuses": "for s in 3 -1 256 None True \"'text'\" 2**70 '[1]'; do $P ends.py \"exit:$s\"; echo $?; done",
    "deaths": "for s in SIGTERM SIGKILL SIGABRT SIGSEGV SIGUSR1; do $P ends.py signal:$s; echo $?; done",
    "ends": "for how in plain thread os._exit children 'raise in atexit'; do $P ends.py \"$how\"; echo $?; cat kept.txt; done",
    "a daemon thread": "$P ends.py daemon | grep -v deleted; cat kept.txt",
    "forks": "$P ends.py fork; echo $?",
    "everything closed": "$P ends.py closerange; echo $?",
    "another program": "$P ends.py exec; echo $?",
    "processes by fork": "$P many.py fork",
    "processes by spawn": "$P many.py spawn",
    "big output": "$P lines.py 50000 > out; wc -c < out; rm out",
    "output in order": "$P -u mixed.py 2>&1; HERE=1 $P mixed.py",
    "substitution": "x=$($P lines.py 3); echo \"$x\" | wc -l",
    "pytest": "$P -m pytest -q -p no:cacheprovider -p no:randomly check_sums.py",
    "unittest": "$P -m unittest -v test_none 2>&1 | tail -3; $P -m compileall -q folder; echo $?",
    "a debugger": "printf 'n\\nw\\nc\\n' | $P -m pdb lines.py 2; printf 'c\\n' | $P -c 'breakpoint(); print(1)'",
    "a debugger to the end": "printf 'x = 1\\nbreakpoint()\\nx = 2\\n' > d.py; printf 'p x\\nn\\nn\\nn\\n' | $P d.py; echo $?",
    "inspection": "echo 'print(x)' | $P -i -c 'x = 5' 2>/dev/null",
}  # fmt: skip


def differences(names: list[str], python: str, folder: Path, daemon: Daemon) -> list[str]:
    """What is not the same, each as a text."""
    found = []
    for name in names:
        cold = seen(COMMAND_LINES[name], PYTHON_COLD, folder / "here", daemon)
        warm = seen(COMMAND_LINES[name], python, folder / "here", daemon)
        for field in Seen._fields:
            one, other = getattr(cold, field), getattr(warm, field)
            if field == "files":
                one, other = ({k: v for k, v in a.items() if b.get(k) != v} for a, b in ((one, other), (other, one)))
            if one != other:
                found.append(f"--- {name}, {field}\ncold: {one!r}\nwarm: {other!r}")
    return found


PYTHON_COLD = __import__("sys").executable
NAMES = list(COMMAND_LINES)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_a_command_line_does_the_same_cold_and_warm(part: int, tmp_path: Path) -> None:
    application = {"namesake.py": "HOME = 'the application'\n", "sibling_of_the_application.py": "X = 1\n"}
    (tmp_path / "app").mkdir()
    for name, text in application.items():
        (tmp_path / "app" / name).write_text(text)
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        python = (part % 2 and launcher(tmp_path)) or CLIENT
        found = differences(NAMES[part::4], python, tmp_path, daemon)
        assert not found, "\n".join(found)
        assert "please report" not in daemon.log()
