"""``python -m rocksyd.cli``: the command line where no console script is installed."""

import sys

from rocksyd.cli.main import main

sys.exit(main())
