"""``rocksyd.toml`` and ``scripts.d``: what it may say, what it says, and what is wrong with it."""

from rocksyd.config.address import MAX_UNIX_PATH, Address, parse_address
from rocksyd.config.check import check, everything, load, not_installed, read, read_checked, token
from rocksyd.config.parse import parse, parse_kept
from rocksyd.config.settings import (
    FEWEST_CLIENTS,
    AppConfig,
    CompanionConfig,
    Config,
    EmergencyRestart,
    JournalConfig,
    OutputConfig,
    PoolConfig,
    RestartConfig,
    ScriptConfig,
    pool_id,
)  # fmt: skip

__all__ = [
    "FEWEST_CLIENTS",
    "MAX_UNIX_PATH",
    "Address",
    "AppConfig",
    "CompanionConfig",
    "Config",
    "EmergencyRestart",
    "JournalConfig",
    "OutputConfig",
    "PoolConfig",
    "RestartConfig",
    "ScriptConfig",
    "check",
    "everything",
    "load",
    "not_installed",
    "parse",
    "parse_address",
    "parse_kept",
    "pool_id",
    "read",
    "read_checked",
    "token",
]
