"""The application with room for one job (see ``rocksyd.toml``)."""

import os
import time
from pathlib import Path


class Waits:
    """Until the test has made the file ``$ROCKSYD_GATE``."""

    def run(self, params):
        while not Path(os.environ["ROCKSYD_GATE"]).exists():
            time.sleep(0.01)
