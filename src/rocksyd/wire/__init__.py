"""Bytes to requests and replies to bytes, without I/O. Nothing else of rocksyd is known here but its errors' root."""

from rocksyd.wire.connection import MAX_LINE, Connection
from rocksyd.wire.lines import LineBuffer, LineTooLong
from rocksyd.wire.requests import (
    Answer,
    Auth,
    Batch,
    Bye,
    Call,
    Check,
    Free,
    Json,
    Order,
    Quit,
    Request,
    RpcId,
    Run,
    Stats,
    Terminate,
    Version,
)

__all__ = [
    "MAX_LINE", "Answer", "Auth", "Batch", "Bye", "Call", "Check", "Connection", "Free", "Json", "LineBuffer", "LineTooLong",
    "Order", "Quit", "Request", "RpcId", "Run", "Stats", "Terminate", "Version",
]  # fmt: skip
