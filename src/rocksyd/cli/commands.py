"""Every command by its name: what it takes, what it says of itself, which function does it.

What must live here: the table of commands, and which error ends with which exit status.
What this file must not know: what the commands do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from rocksyd.cli import daemon, listing, numbers, pools, runs
from rocksyd.cli.arguments import count, duration, json_value, pair, signal_number
from rocksyd.cli.output import reader_left, say
from rocksyd.errors import AddressError, NoDaemon, RocksydError, TimedOut, TooBusy

USAGE, UNAVAILABLE, BUSY, TIMED_OUT, INTERRUPTED, REFUSED = 2, 69, 75, 124, 130, 1

Parser = argparse.ArgumentParser

DESCRIPTION = """\
Loads your application once, runs every job as a fork of it, and restarts without dropping anything.

The daemon is found by --address, $ROCKSYD_ADDRESS, or the rocksyd.toml of this folder or above. For a tcp address the token is
$ROCKSYD_TOKEN, or what the token_file of that rocksyd.toml holds."""
STATUSES = """\
exit status:
  0 done   1 the job failed (or its own status), or the daemon refused   2 wrong usage   69 no daemon there
  75 too busy, try again later   124 timed out   130 interrupted"""


class Command(NamedTuple):
    """One command: its summary, its examples, how its arguments are declared, and what does it."""

    summary: str
    declare: Callable[[Parser], None]
    perform: Callable[[argparse.Namespace], int]
    examples: str = ""
    prints_data: bool = True
    asks_daemon: bool = True


def run_command(arguments: list[str]) -> int:
    """Read the arguments, carry out the command, return the exit status; every error is said in a sentence."""
    try:
        options = _read(arguments)
    except SystemExit as end:  # argparse has said what is wrong, or printed the help
        return end.code if isinstance(end.code, int) else USAGE
    try:
        return int(options.perform(options))
    except BrokenPipeError:
        return reader_left()
    except KeyboardInterrupt:
        return INTERRUPTED
    except RocksydError as error:
        say(str(error))
        return _status_of(error)
    except TypeError as error:
        if not _from_parameters(error):
            raise
        say(str(error))
        return USAGE


def _read(arguments: list[str]) -> argparse.Namespace:
    """The options. argparse alone would refuse NAME=VALUE behind an option that stands behind the target."""
    parser = build_parser()
    options, left = parser.parse_known_args(arguments)
    if not left:
        return options
    if not hasattr(options, "values") or any(word.startswith("-") for word in left):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    try:
        options.values = [*options.values, *(pair(word) for word in left)]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return options


def _from_parameters(error: TypeError) -> bool:
    """Whether the client refused the parameters (any other TypeError is a mistake of ours and keeps its traceback)."""
    return "parameters of" in str(error)


def _status_of(error: RocksydError) -> int:
    for kind, status in ((NoDaemon, UNAVAILABLE), (TooBusy, BUSY), (TimedOut, TIMED_OUT), (AddressError, USAGE)):
        if isinstance(error, kind):
            return status
    return REFUSED


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="rocksyd",
        description=DESCRIPTION,
        epilog=f"`rocksyd COMMAND --help` explains a command and shows examples.\n\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rocksyd {_version()}")
    parser.add_argument("--address", metavar="ADDRESS", help="unix://PATH or tcp://HOST:PORT of the daemon")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"examples:\n{command.examples}" if command.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.declare(sub)
        if command.asks_daemon:
            # SUPPRESS: what stands before the command must not be overwritten by the default of what stands behind it.
            sub.add_argument("--address", metavar="ADDRESS", default=argparse.SUPPRESS, help="unix://PATH or tcp://HOST:PORT")
        if command.prints_data:
            sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        sub.set_defaults(perform=command.perform)
    return parser


def _version() -> str:
    from rocksyd import __version__

    return __version__


# --- what each command takes ------------------------------------------------------------------------------------------
def _nothing(parser: Parser) -> None:
    """This command has no arguments of its own."""


def _key(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", help="the run")


def _serve(parser: Parser) -> None:
    _config(parser)
    parser.add_argument("--daemon", action="store_true", help="go to the background; return when it is ready, or say why not")
    parser.add_argument("--pid-file", metavar="FILE", help="write the service's PID there, locked while it lives")
    parser.add_argument("--log-file", metavar="FILE", help="append the log there (default: standard error)")


def _dev(parser: Parser) -> None:
    _config(parser)
    parser.add_argument(
        "--watch",
        metavar="PATH",
        action="append",
        default=[],
        help="a further folder or file whose changes reload; may be repeated",
    )
    parser.add_argument("--no-reload", dest="reload", action="store_false", help="do not watch files")


def _config(parser: Parser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="default: rocksyd.toml of this folder or above")


def _doctor(parser: Parser) -> None:
    _config(parser)
    parser.add_argument("--app", metavar="APP", action="append", help="only this application; may be repeated")
    parser.add_argument("--all", action="store_true", help="show every import, package and library, not only what matters")
    parser.add_argument("--run", metavar="TARGET", dest="target", help="run this job once, and say what of the memory it copies")
    parser.add_argument("--params", metavar="JSON", type=json_value, help="the arguments of that job, as for `run`")


def _run(parser: Parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a job's short name, or module:name")
    parser.add_argument("values", metavar="NAME=VALUE", nargs="*", type=pair, help="an argument; VALUE is JSON, or else text")
    parser.add_argument(
        "--params", metavar="JSON", type=json_value, help="all arguments: an array by position, an object by name"
    )
    parser.add_argument("--key", metavar="KEY", help="name of the run; ordering it again with the same key does nothing")
    after = parser.add_mutually_exclusive_group()
    after.add_argument(
        "--wait", action="store_true", help="wait until it has ended, print what it returned (JSON), and exit with its status"
    )
    after.add_argument("--follow", action="store_true", help="print its output as it comes, and exit with its status")
    parser.add_argument("--app", metavar="APP", help="the application, when several know the target")
    parser.add_argument("--priority", metavar="N", type=int, help="higher goes first")
    parser.add_argument("--timeout", metavar="D", type=duration, help="end it after this time (250ms, 10s, 5m, 1h)")
    parser.add_argument("--delay", metavar="D", type=duration, help="start it after this time")
    parser.add_argument("--start-within", metavar="D", type=duration, help="give it up if it has not started by then")
    parser.add_argument("--retries", metavar="N", type=count, help="try again this often after a failure")
    for option, what in (("--env", "a further environment variable"), ("--label", "a label to find it by")):
        parser.add_argument(option, metavar="NAME=VALUE", action="append", default=[], help=f"{what}; may be repeated")


def _wait(parser: Parser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="+", help="the runs")
    parser.add_argument("--timeout", metavar="D", type=duration, help="give up waiting after this time (exit status 124)")


def _logs(parser: Parser) -> None:
    _key(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")


def _exec(parser: Parser) -> None:
    parser.add_argument("--app", metavar="APP", help="the application, when there are several and this folder is in none")
    parser.add_argument("--priority", metavar="N", help="higher goes first, where all workers are busy")
    parser.add_argument("words", metavar="SCRIPT [ARG...]", nargs=argparse.REMAINDER, help="also -m MODULE, -c COMMAND, or -")


def _exec_script(options: argparse.Namespace) -> int:
    """Only what ``main`` does not take at once comes here: an address in one word (``--address=unix://d.sock exec ...``)."""
    from rocksyd.cli.exec import exec_script

    chosen = [f"--{name}={value}" for name in ("app", "priority") if (value := getattr(options, name)) is not None]
    words = options.words if options.words[:1] == ["--"] else ["--", *options.words]
    return exec_script([*chosen, *words], options.address)


def _kill(parser: Parser) -> None:
    _key(parser)
    parser.add_argument("--signal", metavar="S", type=signal_number, help="name or number; default TERM (KILL after the grace)")


def _ps(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also the runs that have ended")
    parser.add_argument("--app", metavar="APP", help="only of this application")
    parser.add_argument("--state", choices=("waiting", "running", "ended"), help="only in this state")
    parser.add_argument(
        "--limit", metavar="N", type=count, help="at most so many (default: all, but of those that ended the last 100)"
    )


def _pools(parser: Parser) -> None:
    parser.add_argument("-w", "--workers", action="store_true", help="also a line for each worker: stage, run, time, CPU, memory")


def _stop(parser: Parser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="return when the daemon has taken the order, not when it is gone")


def _top(parser: Parser) -> None:
    parser.add_argument("--interval", metavar="D", type=duration, default=1.0, help="how often it looks (default: 1s)")


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _examine(options: argparse.Namespace) -> int:
    from rocksyd.cli.doctor import doctor

    return doctor(options)


def _develop(options: argparse.Namespace) -> int:
    from rocksyd.cli.dev import dev

    return dev(options, daemon.config_path(options))


def _show_top(options: argparse.Namespace) -> int:
    from rocksyd.cli.top import top

    return top(options)


def _say_why(options: argparse.Namespace) -> int:
    from rocksyd.cli.why import why

    return why(options)


def _print_completion(options: argparse.Namespace) -> int:
    from rocksyd.cli.completion import completion

    return completion(options)


COMMANDS: dict[str, Command] = {
    "serve": Command(
        "run the daemon, in the foreground unless told otherwise", _serve, daemon.serve, asks_daemon=False, prints_data=False,
        examples="  rocksyd serve\n  rocksyd serve -c /srv/shop/rocksyd.toml --daemon --pid-file shop.pid --log-file shop.log",
    ),
    "dev": Command(
        "run the daemon for development: a changed file reloads it, what runs print is shown", _dev, _develop,
        asks_daemon=False, prints_data=False, examples="  rocksyd dev\n  rocksyd dev -c shop/rocksyd.toml --watch ../library",
    ),
    "check-config": Command(
        "say what is wrong with a configuration (exit status 1), or what it sets up (0)", _config, daemon.check_config,
        asks_daemon=False, examples="  rocksyd check-config -c rocksyd.toml && rocksyd restart",
    ),
    "doctor": Command(
        "load the applications as the daemon would, and say what does not survive a fork, what it costs and what to do", _doctor,
        _examine, asks_daemon=False,
        examples="  rocksyd doctor\n  rocksyd doctor -c /srv/shop/rocksyd.toml --app shop --all\n"
        "  rocksyd doctor --run nightly --params '[\"2026-01-31\"]'\n"
        "  rocksyd doctor --json | jq '.apps.shop.findings'",
    ),
    "run": Command(
        "order a run and print its key", _run, runs.run,
        examples="  rocksyd run nightly\n  rocksyd run shop.reports:daily day=2026-01-31 shard=3 --wait\n"
        "  rocksyd run TestClass1 --params '[1, 2, 3]' --key 4711 --follow",
    ),
    "check": Command("say in one line how a run is (exit status 0 however it is, 1 if there is none)", _key, runs.check),
    "wait": Command(
        "wait until runs have ended; exit with the status of the first that failed", _wait, runs.wait,
        examples="  rocksyd wait 4711\n  rocksyd wait nightly weekly --timeout 10m",
    ),
    "logs": Command("print the output of a run", _logs, runs.logs, examples="  rocksyd logs -f 4711"),
    "exec": Command(
        "run a script in a warm worker, as if it had been started here", _exec, _exec_script, prints_data=False,
        examples="  rocksyd exec -- manage.py migrate\n  rocksyd exec -- -m pytest -q\n"
        "  rocksyd exec --app shop -- -c 'import shop'",
    ),
    "kill": Command("end a run: TERM to its processes, KILL after the grace", _kill, runs.kill, prints_data=False),
    "free": Command("let the daemon forget an ended run and its output", _key, runs.free, prints_data=False),
    "retry": Command("run an ended run again under its key", _key, runs.retry),
    "ps": Command(
        "list what runs and waits", _ps, listing.ps,
        examples="  rocksyd ps\n  rocksyd ps -a --app shop --limit 20\n  rocksyd ps -a --json | jq '.[].key'",
    ),
    "why": Command("say why a run waits, goes on, or ended as it did", _key, _say_why, examples="  rocksyd why 4711"),
    "stack": Command("print where each thread of a running job is", _key, runs.stack, examples="  rocksyd stack 4711"),
    "top": Command(
        "watch pools, workers, queue, rates and restarts live; piped, print them once", _top, _show_top,
        examples="  rocksyd top\n  rocksyd top --interval 250ms\n  rocksyd top | head -20",
    ),
    "stats": Command("print the daemon's numbers and its last restarts", _nothing, numbers.stats),
    "pools": Command(
        "print the sizes of the pools, and what each worker is at", _pools, pools.pools,
        examples="  rocksyd pools\n  rocksyd pools --workers\n  rocksyd pools --json | jq '.[].processes[].stage'",
    ),
    "restart": Command(
        "load the code anew and hand over to it without dropping anything; if it cannot serve, nothing changes", _nothing,
        daemon.restart,
    ),
    "reload": Command("read the configuration again and restart, as `restart` does", _nothing, daemon.reload),
    "stop": Command("stop the daemon in order, and return when it is gone", _stop, daemon.stop),
    "drain": Command("let the daemon take no more runs, and return when it has none", _nothing, daemon.drain),
    "completion": Command(
        "print the script that completes commands, options, keys and targets in a shell", _completion, _print_completion,
        asks_daemon=False, prints_data=False,
        examples='  eval "$(rocksyd completion bash)"            # in ~/.bashrc\n'
        "  source <(rocksyd completion zsh)             # in ~/.zshrc, behind compinit\n"
        "  rocksyd completion fish | source             # in ~/.config/fish/config.fish",
    ),
}  # fmt: skip
