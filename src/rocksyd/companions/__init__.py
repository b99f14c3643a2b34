"""Processes beside the master that extend the daemon: ``from rocksyd.companions import Companion``."""

from rocksyd.companions.companion import CannotAttend, Companion, Listening, Request

__all__ = ["CannotAttend", "Companion", "Listening", "Request"]
