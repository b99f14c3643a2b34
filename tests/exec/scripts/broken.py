import sys

how = sys.argv[1]


def inner(value):
    return 1 / value


def outer(value):
    try:
        inner(value)
    except ZeroDivisionError as error:
        raise ValueError("eins, zwei, drü") from error


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


if how == "chained":
    outer(0)
if how == "interrupt":
    raise KeyboardInterrupt
if how == "hook":
    sys.excepthook = lambda kind, error, traceback: print("hook", kind, error, traceback.tb_lineno)
    inner(0)
if how == "bad hook":
    sys.excepthook = lambda kind, error, traceback: inner(0)
    raise ValueError("first")
if how == "exit in hook":
    sys.excepthook = lambda kind, error, traceback: sys.exit(7)
    raise ValueError("first")
if how == "odd":
    raise Odd
if how == "group":
    raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
if how == "note":
    error = ValueError("x")
    error.add_note("a note")
    raise error
if how == "eval":
    eval("inner(0)")
if how == "recursion":
    def deep():
        return deep()
    try:
        deep()
    except RecursionError as error:
        print(error)
if how == "import":
    import sibling_broken
if how == "last":
    import atexit
    atexit.register(lambda: print(sys.last_type, sys.last_value, sys.last_traceback.tb_lineno))
    inner(0)
