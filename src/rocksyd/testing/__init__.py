"""For tests of programs that use rocksyd, and for its own."""

from rocksyd.testing.daemon import Conversation as Conversation
from rocksyd.testing.daemon import Daemon as Daemon
from rocksyd.testing.daemon import DaemonError as DaemonError
from rocksyd.testing.daemon import until as until
