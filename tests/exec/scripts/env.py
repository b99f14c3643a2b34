import locale
import os
import time

for name, value in sorted(os.environ.items()):
    if name not in ("_", "OLDPWD", "SHLVL", "P"):
        print(ascii(name), ascii(value))
print(time.tzname, locale.setlocale(locale.LC_CTYPE, None))
