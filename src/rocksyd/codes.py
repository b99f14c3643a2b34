"""The errors of JSON-RPC by number, and what each means. Those from -32000 down to -32005 are rocksyd's own."""

from __future__ import annotations

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
JOB_FAILED = -32000
NOT_FOUND = -32001
IN_USE = -32002
NOT_ALLOWED = -32003
TOO_BUSY = -32004
NOT_NOW = -32005

MEANINGS = {
    PARSE_ERROR: "Parse error: not JSON",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params: the message names the parameter",
    INTERNAL_ERROR: "Internal error: the journal cannot be read",
    JOB_FAILED: "the job failed: `data` has type, message, traceback, key, outcome, retcode, signal",
    NOT_FOUND: "not found: no such run, target or application",
    IN_USE: "in use: the key belongs to a run of something else",
    NOT_ALLOWED: "not allowed",
    TOO_BUSY: "too busy: too many runs wait",
    NOT_NOW: "not now: restarting failed, draining, not ended yet, ended already",
}
COMMON = (INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR)
"""Those that every request can meet."""
