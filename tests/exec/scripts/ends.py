import atexit
import os
import signal
import sys
import threading
import time

how = sys.argv[1]
kept = open("kept.txt", "w")
kept.write("written, never closed\n")


class Goodbye:
    def __del__(self):
        print("deleted", name)


name = "a global"
thing = Goodbye()
cycle = [Goodbye()]
cycle.append(cycle)
atexit.register(print, "atexit one")
atexit.register(lambda: print("atexit two", threading.active_count()))
print("begun", how)
if how.startswith("exit:"):
    sys.exit(eval(how[5:]))
if how.startswith("signal:"):
    sys.stdout.flush()
    os.kill(os.getpid(), getattr(signal, how[7:]))
if how == "thread":
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread ended"))).start()
if how == "daemon":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
if how == "os._exit":
    sys.stdout.flush()
    os._exit(9)
if how == "fork":
    sys.stdout.flush()
    if os.fork() == 0:
        atexit.register(print, "the child's own")
        sys.exit(5)
    print("child", os.waitstatus_to_exitcode(os.wait()[1]))
if how == "closerange":
    os.closerange(3, 64)
    sys.exit(4)
if how == "exec":
    sys.stdout.flush()
    os.execvp("sh", ["sh", "-c", "echo executed; exit 6"])
if how == "raise in atexit":
    atexit.register(lambda: 1 / 0)
if how == "children":
    sys.stdout.flush()
    os.system("echo from a shell; exit 3")
    print("after")
