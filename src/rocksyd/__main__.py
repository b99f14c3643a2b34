"""``python -m rocksyd``: the command line, where the folder of the command is not on PATH."""

import sys

from rocksyd.cli.main import main

sys.exit(main())
