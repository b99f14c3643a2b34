import os
import sys

print(sys.argv, sys.orig_argv[1:], __file__, os.getcwd(), sys.path[0])
print(sorted(name for name in globals() if name not in ("os", "sys")))
print(__name__, __package__, __spec__, __doc__, type(__loader__).__name__, __cached__, __annotations__, type(__builtins__))
print(sys.modules["__main__"].__dict__ is globals(), sys.flags.interactive, sys.executable)
