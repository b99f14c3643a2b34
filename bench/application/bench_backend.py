"""A WSGI application whose every request waits for a backend: as many seconds as the file says that BENCH_BACKEND names."""

import os
import time
from pathlib import Path

BACKEND = Path(os.environ["BENCH_BACKEND"])


def wsgi(environ, start_response):
    time.sleep(float(BACKEND.read_text()))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
