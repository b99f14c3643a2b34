"""The command ``rocksyd``. Only what the command at hand needs is imported: `check` is called from loops in shell scripts."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> int:
    """Carry out one command; ``argv`` is what stands behind ``rocksyd``, by default the process's own arguments.

    Returns the exit status: 0 done; 1 the job failed, or the daemon refused or is not healthy; 2 wrong usage; 69 no daemon there;
    74 the output could not be written; 75 too busy; 124 timed out; 130 interrupted; or the job's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    at = 2 if arguments and arguments[0] == "--address" else 0
    if arguments[at : at + 1] == ["exec"] and arguments[at + 1 : at + 2] not in (["--help"], ["-h"]):
        from rocksyd.cli.exec import exec_script

        return exec_script(arguments[at + 1 :], arguments[1] if at else None)
    from rocksyd.cli.output import fill_streams

    fill_streams()
    if arguments and arguments[0] == "check":
        from rocksyd.cli.check import fast_check

        status = fast_check(arguments[1:])
        if status is not None:
            return status
    if arguments and arguments[0] == "__complete":
        from rocksyd.cli.completion import complete

        return complete(arguments[1:])
    from rocksyd.cli.commands import run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
