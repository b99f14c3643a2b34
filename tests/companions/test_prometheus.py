"""Prometheus itself reads the daemon: its linter, the alert rules, and every query of the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.companions.metric_names import ALL
from rocksyd.testing.daemon import TIMEOUT, until
from tests.companions.test_metrics import base, metrics
from tests.ports import free_port

FILES = Path(__file__).parents[2] / "docs" / "prometheus"
needs = pytest.mark.skipif(not shutil.which("promtool") or not shutil.which("prometheus"), reason="prometheus is not installed")
BOARD = json.loads((FILES / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
DEPLOYS = [one["expr"] for one in BOARD["annotations"]["list"]]


def promtool(*words: str, said: bytes = b"", folder: Path = FILES) -> None:
    done = subprocess.run(["promtool", *words], input=said, cwd=folder, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@needs
def test_the_alert_rules_are_right_and_alert_when_they_should() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts-test.yml")
    rules, tests = (set(re.findall(r"alert(?:name)?: (\w+)", (FILES / f"alerts{end}.yml").read_text())) for end in ("", "-test"))
    assert rules == tests


def test_dashboard_and_alerts_know_no_metric_that_is_not_there() -> None:
    known = {one.shown + end for one in ALL for end in (("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",))}
    text = "\n".join([*QUERIES, *DEPLOYS, *(one["definition"] for one in BOARD["templating"]["list"] if "definition" in one)])
    rules = re.sub(r"summary:.*", "", (FILES / "alerts.yml").read_text())
    named = set(re.findall(r"\b(rocksyd_[a-z_]+)(?![a-z_]*=)", text + rules))
    assert named <= known | {"rocksyd_companion_state"}
    assert {name for name in known if name.startswith("rocksyd_run_")} & named


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that reads ``target`` each second; gives where it answers."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs:\n  - job_name: rocksyd\n    static_configs:\n      - targets: ['{target}']\n"
    )
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def asked(where: str, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers; nothing while it does not serve yet."""
    for name, value in (("$__rate_interval", "1m"), ("$instance", ".*"), ("$pool", ".*"), ("$target", ".*")):
        query = query.replace(name, value)
    try:
        with urllib.request.urlopen(
            f"{where}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=TIMEOUT
        ) as answer:
            reply = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from error
    except OSError:
        return []
    assert reply["status"] == "success", reply
    found: list[dict[str, Any]] = reply["data"]["result"]
    return found


@needs
def test_prometheus_reads_it_and_every_query_of_the_dashboard_has_an_answer(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    with metrics(tmp_path / "d", web=True) as served:
        talk = served.talk()
        page = f"{base(talk)}/metrics"
        urllib.request.urlopen(page).close()
        talk.rpc("call", target="says", params=["users", 3])
        request = urllib.request.Request(page, headers={"Accept": "text/plain"})
        with urllib.request.urlopen(request) as answer:
            promtool("check", "metrics", said=answer.read())
        with prometheus(tmp_path, base(talk).removeprefix("http://")) as where:
            until(lambda: asked(where, 'up{job="rocksyd"} == 1'), "Prometheus to read it")
            talk.rpc("call", target="add", params=[1, 2])
            for query in QUERIES:
                until(lambda query=query: asked(where, query), f"an answer to {query}")
            asked(where, DEPLOYS[0])
            (mean,) = asked(where, 'rocksyd_run_duration_seconds_count{target="says"}')
            assert mean["value"][1] == "1"
