"""An ASGI application around another one, which holds the server against the specification (ASGI 3, HTTP and WebSocket 2.3).

It is put beside an application as a module of that (``TEXT``); what it finds is a line of the file ``faults`` there, and
``checked`` has a line for each scope, so that a test knows that it has looked.
"""

from __future__ import annotations

TEXT = '''
import asyncio, re

SCOPE = {
    "http": {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
             "client", "server", "state", "extensions"},
    "websocket": {"type", "asgi", "http_version", "scheme", "path", "raw_path", "query_string", "root_path", "headers", "client",
                  "server", "subprotocols", "state", "extensions"},
    "lifespan": {"type", "asgi", "state"},
}
OPTIONAL = {"extensions", "state"}

def fault(scope, what):
    with open("faults", "a") as file:
        file.write(f"{scope['type']} {scope.get('path', '')}: {what}\\n")

def is_address(value):
    return value is None or (
        isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str)
        and (value[1] is None or isinstance(value[1], int))
    )

def are_headers(value):
    return all(
        len(pair) == 2 and type(pair[0]) is type(pair[1]) is bytes and pair[0] == pair[0].lower() != b""
        and not pair[0].startswith(b":") and pair[1] == pair[1].strip(b" \\t")
        for pair in value
    )

KINDS = {
    "asgi": lambda v: v["version"] == "3.0" and re.fullmatch(r"2\\.\\d", v.get("spec_version", "2.0")),
    "http_version": lambda v: v in ("1.0", "1.1", "2"),
    "method": lambda v: isinstance(v, str) and v == v.upper(),
    "scheme": lambda v: v in ("http", "https", "ws", "wss"),
    "path": lambda v: isinstance(v, str) and v.startswith("/"),
    "raw_path": lambda v: v is None or isinstance(v, bytes) and b"?" not in v,
    "query_string": lambda v: isinstance(v, bytes) and not v.startswith(b"?"),
    "root_path": lambda v: isinstance(v, str),
    "headers": are_headers,
    "client": is_address,
    "server": is_address,
    "subprotocols": lambda v: all(isinstance(one, str) for one in v),
    "state": lambda v: isinstance(v, dict),
    "extensions": lambda v: v is None or isinstance(v, dict),
}

def look_at_scope(scope):
    known = SCOPE[scope["type"]]
    for name in known - OPTIONAL - scope.keys():
        fault(scope, f"the scope has no {name}")
    for name in scope.keys() - known:
        fault(scope, f"the scope has {name}, which is nothing known")
    for name, holds in KINDS.items():
        if name in scope and not holds(scope[name]):
            fault(scope, f"{name} is {scope[name]!r}")
    if scope["type"] == "http" and scope["scheme"] not in ("http", "https"):
        fault(scope, f"scheme is {scope['scheme']}")
    if scope["type"] == "websocket" and scope["scheme"] not in ("ws", "wss"):
        fault(scope, f"scheme is {scope['scheme']}")

class Http:
    """What may come, and when."""
    def __init__(self, scope):
        self.scope, self.body_over, self.gone = scope, False, False

    def received(self, message):
        if message["type"] == "http.disconnect":
            self.gone = True
        elif message["type"] != "http.request":
            fault(self.scope, f"received {message['type']}")
        elif self.body_over:
            fault(self.scope, "received more behind the last of the body")
        elif self.gone:
            fault(self.scope, "received a body behind http.disconnect")
        else:
            if type(message.get("body", b"")) is not bytes or type(message.get("more_body", False)) is not bool:
                fault(self.scope, f"received {message!r}")
            self.body_over = not message.get("more_body", False)

class WebSocket:
    def __init__(self, scope):
        self.scope, self.connected, self.gone = scope, False, False

    def received(self, message):
        kind = message["type"]
        if not self.connected and kind != "websocket.connect":
            fault(self.scope, f"received {kind} first")
        if self.connected and kind == "websocket.connect":
            fault(self.scope, "received websocket.connect twice")
        if self.gone and kind != "websocket.disconnect":
            fault(self.scope, f"received {kind} behind websocket.disconnect")
        self.connected = True
        if kind == "websocket.receive":
            said = [type(message.get(name)) for name in ("bytes", "text") if message.get(name) is not None]
            if said not in ([bytes], [str]):
                fault(self.scope, f"received {message!r}")
        elif kind == "websocket.disconnect":
            self.gone = True
            if not isinstance(message.get("code", 1005), int):
                fault(self.scope, f"received {message!r}")
        elif kind != "websocket.connect":
            fault(self.scope, f"received {kind}")

class Lifespan:
    def __init__(self, scope):
        self.scope, self.next = scope, ["lifespan.startup", "lifespan.shutdown"]

    def received(self, message):
        if not self.next or message["type"] != self.next.pop(0):
            fault(self.scope, f"received {message['type']}")

RULES = {"http": Http, "websocket": WebSocket, "lifespan": Lifespan}
STATE = {}

def checked(app):
    async def application(scope, receive, send):
        with open("checked", "a") as file:
            file.write(scope["type"] + "\\n")
        look_at_scope(scope)
        if scope["type"] == "lifespan" and "state" in scope:
            scope["state"]["made"] = STATE
        elif scope["type"] != "lifespan":
            if scope["state"].get("made") is not STATE or "mine" in scope["state"]:
                fault(scope, f"state is {scope['state']!r}")
            scope["state"]["mine"] = True  # a copy of each request's own
        rules, over = RULES[scope["type"]](scope), False

        async def checking_receive():
            message = await receive()
            if type(message) is not dict:
                fault(scope, f"received a {type(message).__name__}")
            rules.received(message)
            return message

        async def checking_send(message):
            nonlocal over
            if await send(message) is not None:
                fault(scope, "send returned something")
            over = message["type"] == "http.response.body" and not message.get("more_body", False)

        await app(scope, checking_receive, checking_send)
        if scope["type"] == "http" and over:
            try:
                async with asyncio.timeout(60):
                    if (await receive())["type"] != "http.disconnect":
                        fault(scope, "received something else than http.disconnect behind the response")
            except TimeoutError:
                fault(scope, "received nothing behind the response")
            try:
                await send({"type": "http.response.body", "body": b"more"})
            except Exception:
                pass
            else:
                if not rules.gone:
                    fault(scope, "sent more behind the response, and nobody said anything")
    return application
'''
