import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import warnings

logging.basicConfig(level="INFO", stream=sys.stdout)
logging.info("logged")
warnings.warn("old", DeprecationWarning)
print("to stdout")
print("to stderr", file=sys.stderr)
subprocess.run([sys.executable, "-c", "import os; print(os.environ.get('HERE'), os.getcwd())"])
with tempfile.TemporaryDirectory() as folder:
    print(os.path.isdir(folder))


async def main():
    await asyncio.sleep(0)
    return "awaited"


print(asyncio.run(main()))
print(os.umask(0))
