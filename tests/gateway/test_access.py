"""Who may ask what: every route without a token, with a wrong one and with one that is too weak; hosts, origins, redaction."""

from __future__ import annotations

import json
from pathlib import Path

from rocksyd.companions.gateway.rest import RESOURCES
from tests.gateway.stage import Web, daemon, web

TOKENS = """
redact = ["*password*", "secret"]
[gateway.tokens.reader]
file = "reader"
scopes = ["read"]
[gateway.tokens.runner]
file = "runner"
scopes = ["run"]
targets = ["jobs:add", "sleep"]
[gateway.tokens.chief]
file = "chief"
scopes = ["read", "run", "admin"]
"""
PAGES = ("/", "/targets", "/target/app/add", "/schedules", "/restarts", "/errors", "/search", "/api", "/run/k", "/changes")
READING = ("/runs", "/runs/k", "/runs/k/logs", "/openapi.json", "/metrics", "/events", *PAGES)
ACTING = (
    ("POST", "/runs", {"target": "add", "params": [1, 2]}),
    ("POST", "/call/add", [1, 2]),
    ("POST", "/runs/k/terminate", {}),
    ("POST", "/runs/k/retry", {}),
    ("DELETE", "/runs/k", None),
    ("POST", "/rpc/run", {"target": "add", "params": [1, 2]}),
    ("POST", "/rpc/edit", {"key": "k", "priority": 1}),
)
ADMIN = ("restart", "reload", "drain", "stop")


def tokens(folder: Path) -> None:
    for name in ("reader", "runner", "chief"):
        (folder / name).write_text(f"{name}-secret-{name}\n")
        (folder / name).chmod(0o600)


def secret(name: str) -> str:
    return f"{name}-secret-{name}"


def test_every_route_without_a_token_with_a_wrong_one_and_with_one_that_may_not(tmp_path: Path) -> None:
    tokens(tmp_path)
    with daemon(tmp_path, TOKENS) as served:
        talk = served.talk()
        nobody = web(talk)
        reader, runner, chief = (nobody.of(secret(name)) for name in ("reader", "runner", "chief"))
        wrong = nobody.of("reader-secret-chief")
        talk.rpc("run", target="add", params=[1, 2], key="k")
        talk.rpc("wait", key="k")

        for who in (nobody, wrong):
            for path in READING:
                answer = who.get(path)
                assert (path, answer.status) == (path, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            for verb, path, body in ACTING:
                assert (path, who.ask(verb, path, body).status) == (path, 401)
            assert who.post("/rpc", {"jsonrpc": "2.0", "id": 1, "method": "stats"}).status == 401
        assert {path for _, path, _ in RESOURCES} <= {
            "/runs",
            "/runs/{key}",
            *(f"/runs/{{key}}/{w}" for w in ("terminate", "retry", "logs")),
        }

        for verb, path, body in ACTING:
            assert (path, reader.ask(verb, path, body).status) == (path, 403)
        for method in ADMIN:
            for who in (reader, runner):
                assert (method, who.post(f"/rpc/{method}", {}).status) == (method, 403)
                said = who.post("/rpc", {"jsonrpc": "2.0", "id": 1, "method": method})
                assert (said.status, said.json["error"]["code"]) == (403, -32003)
        for path in READING:
            if path not in ("/events", "/changes"):
                assert (path, reader.get(path).status) == (path, 200)

        assert runner.post("/call/add", [1, 2]).json == {"result": 3}
        assert runner.post("/call/jobs%3Aadd", [1, 2]).json == {"result": 3}
        assert runner.post("/call/say", ["x"]).status == 403
        assert runner.post("/rpc/call", {"target": "say", "params": ["x"]}).status == 403
        talk.rpc("run", target="say", params=["x"], key="other")
        talk.rpc("wait", key="other")
        assert runner.post("/runs/other/retry").status == 403
        assert runner.post("/rpc/edit", {"key": "other", "priority": 1}).status == 403
        assert runner.post("/runs/k/retry").status == 200
        assert chief.post("/rpc/restart", {}).json == {"result": {"generation": 2}}

        browser_comes(nobody)
        what_is_hidden(chief)


def browser_comes(nobody: Web) -> None:
    """A person logs in, and is known by the cookie for as long as it is whole."""
    sent = nobody.get("/errors?since=1h", Accept="text/html")
    assert (sent.status, sent.headers["location"]) == (303, "/login?next=%2Ferrors%3Fsince%3D1h")
    assert nobody.get("/login").status == 200
    assert nobody.post("/login", {"token": "guess"}).status == 403
    assert nobody.ask("POST", "/login", b"token=x", Content_Type="application/x-www-form-urlencoded").status == 415
    entered = nobody.post("/login", {"token": secret("reader"), "next": "//evil.example/"})
    assert entered.json == {"name": "reader", "next": "/"}
    cookie, *rules = entered.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rules)
    assert secret("reader") not in cookie
    assert nobody.get("/", Cookie=cookie).status == 200
    assert nobody.post("/call/add", [1, 2], Cookie=cookie).status == 403
    for broken in (
        cookie[:-1] + ("A" if cookie[-1] != "A" else "B"),
        cookie.replace("reader.", "chief."),
        "rocksyd=",
        "rocksyd=reader",
    ):
        assert nobody.get("/", Cookie=broken).status == 401


def what_is_hidden(chief: Web) -> None:
    order = {
        "target": "add",
        "params": {"a": {"Password": "geheim"}, "b": 1},
        "key": "hidden",
        "labels": {"secret": "geheim", "x": "y"},
    }
    for answer in (chief.post("/runs", order), chief.get("/runs/hidden"), chief.get("/runs?limit=1"), chief.get("/run/hidden")):
        assert answer.status == 200
        assert "geheim" not in answer.text
        assert "[redacted]" in answer.text
    assert chief.get("/runs/hidden").json["labels"] == {"secret": "[redacted]", "x": "y"}
    chief.post("/runs", {**order, "key": "later", "delay": "1h"})
    assert chief.post("/rpc/edit", {"key": "later", "priority": 3}).json["result"]["priority"] == 3
    page = chief.get("/run/later").text
    assert 'data-edit="later"' in page
    assert 'name="params"' not in page, "what is hidden would be lost"
    for params in ({"a": {"Password": "[redacted]"}, "b": 2}, {"a": ["[redacted]"], "b": 2}):
        assert chief.post("/rpc/edit", {"key": "later", "params": params}).status == 400
    assert chief.post("/rpc/edit", {"key": "later", "params": {"a": {"Password": "neu"}, "b": 2}}).status == 200


def test_what_a_browser_can_be_made_to_send_by_a_stranger_is_refused(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        there = web(served.talk())
        own = f"{there.host}:{there.port}"
        for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "[", "a@b@c"):
            assert (host, there.get("/runs", Host=host).status) in {(host, 403), (host, 400)}
        for host in (own, f"localhost:{there.port}", "[::1]:1", "LOCALHOST"):
            assert (host, there.get("/runs", Host=host).status) == (host, 200)
        for headers in (
            {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"https://{own}.evil.example"}, {"Origin": "[" },
            {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
        ):  # fmt: skip
            assert (headers, there.post("/call/add", [1, 2], **headers).status) == (headers, 403)
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            assert (kind, there.ask("POST", "/call/add", b"[1, 2]", Content_Type=kind).status) == (kind, 415)
        assert there.post("/call/add", [1, 2], Origin=f"http://{own}", Sec_Fetch_Site="same-origin").json == {"result": 3}
        preflight = there.ask("OPTIONS", "/call/add", None, Origin="http://evil.example", Access_Control_Request_Method="POST")
        assert preflight.status == 405
        for answer in (preflight, there.get("/runs", Origin="http://evil.example"), there.get("/")):
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
        assert json.loads(there.post("/rpc/restart", {}).text)["error"]["data"].startswith('add "admin"')


def test_who_has_ordered_something_of_a_script_is_known_by_the_name_of_the_token(tmp_path: Path) -> None:
    tokens(tmp_path)
    with daemon(tmp_path, TOKENS + '[scripts.sums]\ntarget = "add"\nparams = [1, 2]\n') as served:
        talk = served.talk()
        chief = web(talk).of(secret("chief"))
        run = chief.post("/rpc/schedule.run", {"name": "sums", "by": "somebody else"})
        assert run.status == 200, run.text
        assert chief.post("/rpc/schedule.pause", {"name": "sums"}).status == 200
        assert chief.post("/rpc/schedule.kill", {"name": "sums"}).status == 200
        applied = chief.post("/rpc/schedule.apply", {"text": '[scripts.other]\ntarget = "add"\n'})
        assert (applied.status, talk.rpc("schedule.versions", name="other")[0]["author"]) == (200, "the token chief")
        own = talk.rpc("schedule.run", name="sums")["key"]
        talk.rpc("schedule.run", name="sums", by="anna")
        shown = talk.rpc("schedule.show", name="sums")
        assert [(one["what"], one["author"]) for one in shown["by_hand"][2:]] == [
            ("kill", "the token chief"), ("pause", "the token chief"), ("run", "the token chief"),
        ]  # fmt: skip
        assert shown["by_hand"][0]["author"] == "anna"
        assert shown["by_hand"][1]["text"] == own
        assert shown["by_hand"][1]["author"] not in ("anna", "the token chief")
        assert shown["by_hand"][4]["text"] == run.json["result"]["key"]
        assert shown["paused_by"].startswith("by the token chief, ")
