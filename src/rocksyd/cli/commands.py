"""Every command by its name: what it takes, what it says of itself, which function does it.

What must live here: the table of commands, and which error ends with which exit status.
What this file must not know: what the commands do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd import codes
from rocksyd.cli import daemon, failures, filters, jobs, listing, numbers, outputs, pool_tables, restarts, runs, searching
from rocksyd.cli.arguments import count, declare_option, duration, json_value, pair, signal_number
from rocksyd.cli.output import Unwritable, cannot_write, reader_left, say, write
from rocksyd.config.table import nearest
from rocksyd.errors import AddressError, NoDaemon, RequestError, RocksydError, TimedOut, TooBusy
from rocksyd.options import ORDER, said_in

USAGE, UNAVAILABLE, BUSY, TIMED_OUT, INTERRUPTED, REFUSED = 2, 69, 75, 124, 130, 1


class Parser(argparse.ArgumentParser):
    """A parser that prints as every command does, and says which word was probably meant."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            write(message)
        else:
            super()._print_message(message, file)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices and (near := nearest(value, tuple(action.choices))):
            raise argparse.ArgumentError(action, f"invalid choice: {value!r} (did you mean {near}?)")
        super()._check_value(action, value)


DESCRIPTION = """\
Loads your application once, runs every job as a fork of it, and restarts without dropping anything.

The daemon is found by --address, $ROCKSYD_ADDRESS, or the rocksyd.toml of this folder or above. For a tcp address the token is
$ROCKSYD_TOKEN, or what the token_file of that rocksyd.toml holds."""
STATUSES = """\
exit status:
  0 done   1 the job failed (or its own status), or the daemon refused or is not healthy   2 wrong usage
  69 no daemon there   74 the output could not be written   75 too busy, try again later   124 timed out   130 interrupted"""


class Command(NamedTuple):
    """One command: its summary, its examples, how its arguments are declared, and what does it."""

    summary: str
    declare: Callable[[Parser], None]
    perform: Callable[[argparse.Namespace], int]
    examples: str = ""
    prints_data: bool = True
    asks_daemon: bool = True
    elsewhere: bool = True
    """Whether it can be sent to the daemons of other machines (``--on``)."""
    rolls: bool = False
    """Whether those are asked one after another, and none behind one that refuses."""


def run_command(arguments: list[str]) -> int:
    """Read the arguments, carry out the command, return the exit status; every error is said in a sentence."""
    return _status(lambda: _perform(_read(arguments)))


def _perform(options: argparse.Namespace) -> int:
    if options.on is None:
        return int(options.perform(options))
    if options.address is not None:
        options.parser.error("--on names daemons, as --address does: leave one of the two")
    if not options.elsewhere:
        options.parser.error("this command is for one daemon, or for none: leave --on, or name the daemon with --address")
    from rocksyd.cli.peers import on_peers

    return on_peers(options, lambda own: _status(lambda: int(options.perform(own))))


def _status(perform: Callable[[], int]) -> int:
    """The exit status of what ``perform`` does; what it raises is said in a sentence."""
    try:
        return perform()
    except BrokenPipeError:
        return reader_left()
    except Unwritable as error:
        return cannot_write(error)
    except SystemExit as end:  # argparse has said what is wrong, or printed the help
        return end.code if isinstance(end.code, int) else USAGE
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
    parser = options.parser
    if not hasattr(options, "values") or any(word.startswith("-") for word in left):
        near = nearest(left[0].partition("=")[0], tuple(parser._option_string_actions)) if left[0].startswith("--") else ""
        parser.error(f"unrecognized arguments: {' '.join(left)}{near and f' (did you mean {near}?)'}")
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
    return USAGE if isinstance(error, RequestError) and error.code == codes.INVALID_PARAMS else REFUSED


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
    parser.add_argument("--on", metavar="NAMES", help="send it to these daemons of [peers] instead, or to all: web1,web2")
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
        sub.set_defaults(finds="")
        command.declare(sub)
        if command.asks_daemon:
            # SUPPRESS: what stands before the command must not be overwritten by the default of what stands behind it.
            sub.add_argument("--address", metavar="ADDRESS", default=argparse.SUPPRESS, help="unix://PATH or tcp://HOST:PORT")
        if command.prints_data:
            sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        elsewhere = command.asks_daemon and command.elsewhere
        sub.set_defaults(perform=command.perform, parser=sub, elsewhere=elsewhere, rolls=command.rolls)
    return parser


def _version() -> str:
    from rocksyd import __version__

    return __version__


# --- what each command takes ------------------------------------------------------------------------------------------
def _nothing(parser: Parser) -> None:
    """This command has no arguments of its own."""


def _key(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", help="the run")
    parser.set_defaults(finds="key")


def _keys_or_filters(parser: Parser, only: tuple[str, ...] = filters.NAMES) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="*", help="the runs; or filters instead")
    parser.set_defaults(finds="keys")
    filters.declare(parser, only=only)
    parser.add_argument("-a", "--all", action="store_true", help="all runs that there are")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask before it is done to all that the filters find")
    _quiet(parser)


def _quiet(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing as long as all is well: for cron")


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


def _journal(parser: Parser) -> None:
    parser.add_argument("act", choices=("check", "compact", "export", "backup", "restore", "repair"), help="what to do with it")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="`backup`: a new one for it; `restore`: one that has it")
    parser.add_argument("--since", metavar="D", type=duration, help="`export`: only what ended within this time (7d)")
    parser.add_argument("--until", metavar="D", type=duration, help="`export`: only what ended this long ago, or longer")
    _config(parser)


def _run(parser: Parser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a job's short name, or module:name")
    parser.add_argument(
        "values", metavar="NAME=VALUE", nargs="*", default=[], type=pair, help="an argument; VALUE is JSON, or else text"
    )
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
    _quiet(parser)
    for option in said_in(ORDER):
        declare_option(parser, option)


def _wait(parser: Parser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="+", help="the runs")
    parser.set_defaults(finds="keys")
    _quiet(parser)
    parser.add_argument("--timeout", metavar="D", type=duration, help="give up waiting after this time (exit status 124)")


def _logs(parser: Parser) -> None:
    _key(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    parser.add_argument("--attempt", metavar="N", type=count, help="only what the Nth attempt has written up to now")
    parser.add_argument("-n", "--tail", metavar="N", type=count, help="only the last N lines, and what follows")
    parser.add_argument("--grep", metavar="PATTERN", type=outputs.pattern, help="only lines that this regular expression fits")
    parser.add_argument("--since", metavar="WHEN", type=filters.moment, help="only what was written since: 10m (ago), 03:00 ...")
    parser.add_argument("-t", "--timestamps", action="store_true", help="when each line was written, to about a second")
    parser.add_argument("--raw", action="store_true", help="on a terminal, too, exactly what the run has written")


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
    _keys_or_filters(parser, ("app", "target", "label", "since", "until"))
    parser.add_argument("--signal", metavar="S", type=signal_number, help="name or number; default TERM (KILL after the grace)")


def _ps(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also the runs that have ended")
    parser.add_argument("--state", choices=("waiting", "running", "ended"), help="only in this state")
    filters.declare(parser, limit="at most so many (default: all, but of those that ended the last 100)")


def _errors(parser: Parser) -> None:
    filters.declare(
        parser, only=("app", "target", "outcome", "label", "since", "until"),
        limit=f"look at so many failures, the last ones (default: {failures.LOOKED_AT})",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="whole tracebacks")


def _search(parser: Parser) -> None:
    parser.add_argument(
        "words", metavar="TEXT", nargs="+",
        help='words that all have to be there; several in quotes ("\'no such table\'") beside each other, time* for a beginning',
    )  # fmt: skip
    filters.declare(
        parser, only=("app", "target", "outcome", "failed", "since", "until"),
        limit=f"at most so many runs, the latest (default: {searching.SHOWN})",
    )  # fmt: skip


def _jobs(parser: Parser) -> None:
    parser.add_argument("name", metavar="JOB", nargs="?", help="all that is known of this one")
    parser.add_argument("--app", metavar="APP", help="only of this application")


def _restarts(parser: Parser) -> None:
    parser.add_argument("--limit", metavar="N", type=count, help=f"at most so many (default: the last {restarts.SHOWN})")


def _pools(parser: Parser) -> None:
    parser.add_argument("--wide", action="store_true", help="every number that the daemon has of a pool")
    parser.add_argument("-w", "--workers", action="store_true", help="also a line for each worker: stage, run, time, CPU, memory")


def _stop(parser: Parser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="return when the daemon has taken the order, not when it is gone")


def _profile(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", nargs="?", help="a run that is running")
    parser.set_defaults(finds="key")
    parser.add_argument("--target", metavar="TARGET", help="what was seen of its runs; with --for, to look at them")
    parser.add_argument("--script", metavar="NAME", help="the same of a script")
    parser.add_argument("--for", dest="span", metavar="D", type=duration, help="look at all runs that begin within this time")
    parser.add_argument("--stop", action="store_true", help="do so no longer")
    parser.add_argument("--seconds", metavar="D", type=duration, help="for how long a run is looked at, at most (default: 10s)")
    parser.add_argument("--rate", metavar="N", type=count, help="looks a second (default: 100)")
    parser.add_argument("--idle", action="store_true", help="also threads that wait")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there: FILE.svg a flame graph, any other the stacks")
    parser.add_argument("--stacks", action="store_true", help="print the stacks, a line each, as flame graphs are drawn from")
    parser.add_argument("--list", action="store_true", help="what was looked at, and what is")


def _look_at(options: argparse.Namespace) -> int:
    from rocksyd.cli.profile import profile

    return profile(options)


def _debug(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a target, as it is ordered, or a script")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--target", dest="kind", action="store_const", const="target", help="NAME is a target, where there are both"
    )
    kind.add_argument("--script", dest="kind", action="store_const", const="script", help="NAME is a script")
    parser.add_argument("--for", dest="span", metavar="D", type=duration, help="for how long (default: 1h, at most 7d)")
    parser.add_argument("--stop", action="store_true", help="no longer; what runs goes on as it began")
    parser.add_argument("--list", action="store_true", help="whose runs log everything now, for how long, and who wanted it")


def _log_all(options: argparse.Namespace) -> int:
    from rocksyd.cli.debug import debug

    return debug(options)


def _top(parser: Parser) -> None:
    parser.add_argument("--interval", metavar="D", type=duration, default=1.0, help="how often it looks (default: 1s)")


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _repair(options: argparse.Namespace) -> int:
    from rocksyd.cli.journal import journal

    return journal(options)


def _examine(options: argparse.Namespace) -> int:
    from rocksyd.cli.doctor import doctor

    return doctor(options)


def _develop(options: argparse.Namespace) -> int:
    from rocksyd.cli.dev import dev

    return dev(options, daemon.config_path(options))


def _show_top(options: argparse.Namespace) -> int:
    from rocksyd.cli.top import top

    return top(options)


def _trial(parser: Parser) -> None:
    parser.add_argument("--turns", metavar="N", type=count, default=3, help="how often it is run cold, and warm (default: 3)")
    parser.add_argument(
        "words", metavar="python SCRIPT [ARG...]", nargs=argparse.REMAINDER, help="the program, as a shell has it"
    )


def _try_program(options: argparse.Namespace) -> int:
    from rocksyd.cli.trying import try_command

    return try_command(options)


def _schedule(parser: Parser) -> None:
    parser.add_argument(
        "act",
        choices=(
            "list", "next", "show", "run", "pause", "resume", "kill", "backfill", "apply", "diff", "versions", "import-crontab",
        ),
        help="what to do",
    )  # fmt: skip
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="the script; without it `list` and `next` show all. `apply`, `diff` and `import-crontab`: the file, or -",
    )
    parser.add_argument("--diff", action="store_true", help="`apply`: only show what it would change")
    parser.add_argument(
        "--remove-others", action="store_true", help="`apply`, `diff`: what was applied before and is not in it goes"
    )
    parser.add_argument("--count", metavar="N", type=count, help="how many times, or ticks, to show")
    parser.add_argument("times", metavar="TIME", nargs="*", help="`backfill`: from and to, RFC 3339 or days")
    parser.add_argument("--system", action="store_true", help="`import-crontab`: its lines name a user, as in /etc/crontab")
    parser.add_argument("--app", metavar="APP", help="`import-crontab`: the application whose scripts they become")
    parser.add_argument(
        "--measure", action="store_true", help="`import-crontab`: RUN its Python programs, and show what each costs cold and warm"
    )
    parser.add_argument(
        "--turns", metavar="N", type=count, default=1, help="`--measure`: how often each is run cold and warm (1)"
    )
    parser.add_argument("--again", action="store_true", help="`backfill`: run those again, too, that have been run")
    parser.add_argument("--explain", action="store_true", help="`next`: what becomes of it when the clock is set, for two years")


def _do_schedule(options: argparse.Namespace) -> int:
    if options.act == "import-crontab" and options.name:
        from rocksyd.cli.crontab import import_crontab

        return import_crontab(options)
    if options.act in ("apply", "diff", "versions") and options.name:
        from rocksyd.cli.schedule_editing import edit

        return edit(options)
    from rocksyd.cli.schedule import schedule

    return schedule(options)


def _notify(parser: Parser) -> None:
    parser.add_argument("act", choices=("list", "test"), help="who is told and whether they can be reached; or try that")
    parser.add_argument("name", metavar="NAME", nargs="?", help="`test`: only this receiver")


def _say_costs(options: argparse.Namespace) -> int:
    from rocksyd.cli.costs import costs

    return costs(options)


def _say_services(options: argparse.Namespace) -> int:
    from rocksyd.cli.services import services

    return services(options)


def _do_notify(options: argparse.Namespace) -> int:
    from rocksyd.cli.notify import notify

    return notify(options)


def _say_why(options: argparse.Namespace) -> int:
    from rocksyd.cli.why import why

    return why(options)


def _say_health(options: argparse.Namespace) -> int:
    from rocksyd.cli.health import health

    return health(options)


def _print_completion(options: argparse.Namespace) -> int:
    from rocksyd.cli.shells import completion

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
    "journal": Command(
        "look after the state: check it, export it, back it up beside the daemon; compact, restore, repair it without one",
        _journal, _repair, asks_daemon=False,
        examples="  rocksyd journal check                          # whole? what is in it?\n"
        "  rocksyd journal export --since 7d | gzip > runs.jsonl.gz\n"
        "  rocksyd journal backup /backup/$(date +%F)     # journal, schedules, outputs, while the daemon runs\n"
        "  rocksyd journal restore /backup/2026-01-31     # the daemon is stopped; what was there is kept beside it\n"
        "  rocksyd journal compact                        # the daemon is stopped\n"
        "  rocksyd journal repair -c /srv/shop/rocksyd.toml",
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
    "logs": Command(
        "print the output of a run", _logs, runs.logs,
        examples="  rocksyd logs -f 4711\n  rocksyd logs 4711 --tail 50 --timestamps\n"
        "  rocksyd logs 4711 --since 10m --grep 'WARN|ERROR'",
    ),
    "exec": Command(
        "run a script in a warm worker, as if it had been started here", _exec, _exec_script, prints_data=False, elsewhere=False,
        examples="  rocksyd exec -- manage.py migrate\n  rocksyd exec -- -m pytest -q\n"
        "  rocksyd exec --app shop -- -c 'import shop'",
    ),
    "kill": Command(
        "end runs: TERM to their processes, KILL after the grace", _kill, runs.kill,
        examples="  rocksyd kill 4711\n  rocksyd kill --target import_orders --label tenant=4 --yes",
    ),
    "free": Command(
        "let the daemon forget ended runs and their output", _keys_or_filters, runs.free,
        examples="  rocksyd free 4711\n  rocksyd free --target import_orders --until 7d",
    ),
    "retry": Command(
        "run ended runs again under their keys", _keys_or_filters, runs.retry,
        examples="  rocksyd retry 4711\n  rocksyd retry --failed --target import_orders --since 1h",
    ),
    "ps": Command(
        "list what runs and waits", _ps, listing.ps,
        examples="  rocksyd ps\n  rocksyd ps --failed --since 1h\n  rocksyd ps -a --app shop --limit 20\n"
        "  rocksyd ps -a --json | jq '.[].key'\n"
        "  rocksyd --on all ps --failed --since 1h    # at each daemon that [peers] names",
    ),
    "errors": Command(
        "print what failed within a day, each failure once: how often, first and last when, a traceback",
        _errors, failures.errors,
        examples="  rocksyd errors\n  rocksyd errors --since 1h --target import_orders --full\n"
        "  rocksyd errors --json | jq '.[] | [.count, .text]'",
    ),
    "search": Command(
        "find ended runs by words in their output, key, labels or error", _search, searching.search,
        examples="  rocksyd search timeout\n  rocksyd search '\"no such table\"' --failed --since 7d\n"
        "  rocksyd search 4711 --target import_orders --json | jq -r '.[].key'",
    ),
    "jobs": Command(
        "list what may be run, with parameters and documentation", _jobs, jobs.jobs,
        examples="  rocksyd jobs\n  rocksyd jobs import_orders",
    ),
    "restarts": Command(
        "list the last restarts: who ordered them, from what to what, what they carried, why they were refused", _restarts,
        restarts.restarts, examples="  rocksyd restarts\n  rocksyd restarts --json | jq '.[] | select(.ok | not) | .reason'",
    ),
    "why": Command("say why a run waits, goes on, or ended as it did", _key, _say_why, examples="  rocksyd why 4711"),
    "stack": Command("print where each thread of a running job is", _key, runs.stack, examples="  rocksyd stack 4711"),
    "profile": Command(
        "show where the time of a running job goes, or of all runs of a target for a while; as a flame graph, too", _profile,
        _look_at, examples="  rocksyd profile 4711 --seconds 10\n  rocksyd profile 4711 -o 4711.svg\n"
        "  rocksyd profile --target import_orders --for 1h     # look at its runs; it ends by itself\n"
        "  rocksyd profile --target import_orders -o all.svg   # what was seen of them, together",
    ),
    "debug": Command(
        "let the runs of a target or a script log everything (DEBUG) for a while; it ends by itself", _debug, _log_all,
        examples="  rocksyd debug import_orders --for 20m\n  rocksyd debug nightly --stop\n  rocksyd debug --list",
    ),
    "top": Command(
        "watch pools, workers, queue, rates and restarts live; piped, print them once", _top, _show_top, elsewhere=False,
        examples="  rocksyd top\n  rocksyd top --interval 250ms\n  rocksyd top | head -20",
    ),
    "stats": Command("print the daemon's numbers and its last restarts", _nothing, numbers.stats),
    "health": Command(
        "say whether the daemon can do its work, and if not, why and what to do (exit status 0 if it can, 1 if not)", _nothing,
        _say_health, examples="  rocksyd health\n  rocksyd health --json | jq '.problems'",
    ),
    "pools": Command(
        "print the sizes of the pools, and what each worker is at", _pools, pool_tables.pools,
        examples="  rocksyd pools\n  rocksyd pools --wide\n  rocksyd pools --workers\n"
        "  rocksyd pools --json | jq '.[].processes[].stage'",
    ),
    "services": Command(
        "print what each resident service has, what it owes, and how its last hand-over went", _nothing, _say_services,
        examples="  rocksyd services\n  rocksyd services --json | jq '.[] | {service, connections, silence}'",
    ),
    "restart": Command(
        "load the code anew and hand over to it without dropping anything; if it cannot serve, nothing changes", _quiet,
        daemon.restart, rolls=True,
        examples="  rocksyd restart\n  rocksyd --on web1,web2,web3 restart    # one after another; none behind one that refuses",
    ),
    "reload": Command("read the configuration again and restart, as `restart` does", _quiet, daemon.reload, rolls=True),
    "stop": Command("stop the daemon in order, and return when it is gone", _stop, daemon.stop, rolls=True),
    "drain": Command("let the daemon take no more runs, and return when it has none", _quiet, daemon.drain, rolls=True),
    "try": Command(
        "run a Python program cold and warm in turns, without a configuration: is it the same, and how much faster", _trial,
        _try_program, asks_daemon=False,
        examples="  rocksyd try -- python manage.py nightly\n  rocksyd try --turns 5 -- .venv/bin/python -m shop.report\n"
        "It is run 2 x N + 1 times: nothing for a program that must not be run twice.",
    ),
    "schedule": Command(
        "what is due when; run a script now, pause it, let it go on", _schedule, _do_schedule,
        examples="  rocksyd schedule list\n  rocksyd schedule next nightly --count 5\n"
        "  rocksyd schedule show nightly     # what became of its ticks\n"
        "  rocksyd schedule run nightly      # now; prints the run's key\n  rocksyd schedule pause nightly\n"
        "  rocksyd schedule backfill nightly 2026-01-01 2026-01-31\n"
        "  rocksyd schedule apply mine.toml --diff    # what it would change\n"
        "  crontab -l | rocksyd schedule import-crontab - >> rocksyd.toml",
    ),
    "costs": Command(
        "print what was learned of jobs and scripts: how long they take, how often they end well, CPU, memory", _nothing,
        _say_costs, examples="  rocksyd costs\n  rocksyd costs --json | jq '.[] | select(.ok < 0.9)'",
    ),
    "notify": Command(
        "who is told when something fails, is late or is missed; send a test", _notify, _do_notify,
        examples="  rocksyd notify list\n  rocksyd notify test\n  rocksyd notify test ops",
    ),
    "completion": Command(
        "print the script that completes commands, options, keys and targets in a shell", _completion, _print_completion,
        asks_daemon=False, prints_data=False,
        examples='  eval "$(rocksyd completion bash)"            # in ~/.bashrc\n'
        "  source <(rocksyd completion zsh)             # in ~/.zshrc, behind compinit\n"
        "  rocksyd completion fish | source             # in ~/.config/fish/config.fish",
    ),
}  # fmt: skip
