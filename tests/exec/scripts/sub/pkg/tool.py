import sys

print(sys.argv[1:], __name__, __package__, __spec__.name, sys.path[0])
if sys.argv[1:] == ["fail"]:
    raise SystemError("of a module")
if sys.argv[1:] == ["interrupt"]:
    raise KeyboardInterrupt
