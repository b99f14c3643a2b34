"""``rocksyd.toml``: what it may say, what it says, and what is wrong with it."""

from rocksyd.config.address import MAX_UNIX_PATH, Address, parse_address
from rocksyd.config.check import check, load, read, token
from rocksyd.config.locate import locate
from rocksyd.config.parse import parse
from rocksyd.config.settings import (
    AppConfig,
    Config,
    EmergencyRestart,
    JobSettings,
    JournalConfig,
    OutputConfig,
    PoolConfig,
    RestartConfig,
    pool_id,
)  # fmt: skip

__all__ = [
    "MAX_UNIX_PATH",
    "Address",
    "AppConfig",
    "Config",
    "EmergencyRestart",
    "JobSettings",
    "JournalConfig",
    "OutputConfig",
    "PoolConfig",
    "RestartConfig",
    "check",
    "load",
    "locate",
    "parse",
    "parse_address",
    "pool_id",
    "read",
    "token",
]
