"""Bytes to requests and replies to bytes, without I/O. Of rocksyd only the vocabulary is known here."""

from rocksyd.model import Free, Submit, Terminate
from rocksyd.wire.connection import MAX_LINE, Connection
from rocksyd.wire.lines import LineBuffer, LineTooLong
from rocksyd.wire.requests import Answer, Auth, Batch, Bye, Call, Check, DaemonOrder, Json, Quit, Request, RpcId, Stats, Version

__all__ = [
    "MAX_LINE",
    "Answer",
    "Auth",
    "Batch",
    "Bye",
    "Call",
    "Check",
    "Connection",
    "DaemonOrder",
    "Free",
    "Json",
    "LineBuffer",
    "LineTooLong",
    "Quit",
    "Request",
    "RpcId",
    "Stats",
    "Submit",
    "Terminate",
    "Version",
]  # fmt: skip
