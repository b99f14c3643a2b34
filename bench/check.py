"""``check`` requests a second, beside a bare loop that answers the same lines."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.figures import Report, Rounds
from bench.programs import BENCH, Load, Peer, Rocksyd, free_port, original

REQUEST = 'check {"hash":1}\\n'
SHAPES = {
    "50 connections, one request at a time": (50, 1),
    "1 connection, 64 in flight": (1, 64),
    "50 connections, 16 in flight each": (50, 16),
}


@contextlib.contextmanager
def selector_loop() -> Iterator[str]:
    """The address of the bare loop."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(BENCH / "peers" / "selector_loop.py"), str(port)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def measure(quick: bool) -> Report:
    report = Report("check", "`check`: replies a second over TCP")
    rounds, seconds = (3, 0.5) if quick else (9, 2.0)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Rocksyd())
        with daemon.talk() as talk:
            talk.ask('run {"hash":1,"class":"nothing"}')
            talk.rpc("wait", key="1")
        servers = {"rocksyd": daemon.tcp_address, "bare loop": stack.enter_context(selector_loop())}
        if original():
            peer = stack.enter_context(Peer("original.py", original()))
            peer.ask("launch", 1)
            servers["the published Phprocksyd"] = "127.0.0.1:31337"
        else:
            report.left_out.append("the published Phprocksyd: name its Phprocksyd.php in $BENCH_ORIGINAL")
        for shape, (connections, depth) in SHAPES.items():
            rates, client = Rounds(), Rounds()
            for _ in range(rounds):
                for name, address in servers.items():
                    with Load(address, REQUEST, connections=connections, depth=depth) as load:
                        load.rate(seconds / 4)
                        began = time.perf_counter()
                        time.sleep(seconds)
                        seen = load.seen()
                        took = time.perf_counter() - began
                        rates.add(name, [seen.replies / took])
                        client.add(name, [seen.cpu / took])
            _report(report, shape, rates, client)
    return report


def _report(report: Report, shape: str, rates: Rounds, client: Rounds) -> None:
    asked = {"50 connections, one": (69_000, 0.5), "1 connection": (171_000, 0.25), "50 connections, 16": (263_000, 0.25)}
    least, share = next(limits for start, limits in asked.items() if shape.startswith(start))
    note = f"client busy {client.value('rocksyd'):.0%} of a core"
    report.add(f"{shape}: rocksyd", rates.value("rocksyd"), "/s", at_least=least, note=note)
    report.add(
        "… to the bare loop",
        rates.ratio("rocksyd", "bare loop"),
        "x",
        at_least=share,
        note=f"it does {rates.value('bare loop'):,.0f}/s",
    )
    if "the published Phprocksyd" in rates:
        report.add(
            "… to the published Phprocksyd",
            rates.ratio("rocksyd", "the published Phprocksyd"),
            "x",
            note=f"it does {rates.value('the published Phprocksyd'):,.0f}/s here",
        )
