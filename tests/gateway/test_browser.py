"""The pages in headless Chromium, as Debian has it: every page without an error, live, with its orders, and harmless."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.companions.stage import Gate
from tests.gateway.stage import daemon, web
from tests.restart.stage import JOBS, restart

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]
SCRIPTS = """
[scripts.nightly]
target = "add"
params = [1, 2]
cron = "0 3 * * *"
"""
MORE = '''
@job
def typed(name: str, count: int = 1, *, loud: bool = False) -> list:
    """What <b>it</b> says."""
    return [name, count, loud]

@job
def hostile(text):
    print(text, flush=True)
    raise ValueError(text)
'''
ATTACK = (
    "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'><svg onload=window.hit=1>\x1b[31m\x1b]0;x\x07\u202e{{7*7}}"
)
PAGES = ("/", "/targets", "/target/app/typed", "/schedules", "/schedule/nightly", "/restarts", "/errors", "/search", "/api")


@contextmanager
def browser(**more: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page of a browser, and what it complains of."""
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = chromium.new_context(**more).new_page()
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page, complaints
        finally:
            chromium.close()


@pytest.mark.parametrize(("width", "scheme"), [(1360, "light"), (390, "dark")])
def test_every_page_is_drawn_without_an_error_and_as_wide_as_the_window(tmp_path: Path, width: int, scheme: Any) -> None:
    with daemon(tmp_path, SCRIPTS, JOBS + MORE) as served:
        talk = served.talk()
        there = web(talk)
        talk.rpc("run", target="typed", params=["x"], key="k", labels={"a": "b"})
        talk.rpc("wait", key="k")
        with browser(viewport={"width": width, "height": 800}, color_scheme=scheme) as (page, complaints):
            for path in (*PAGES, "/run/k"):
                page.goto(there.address + path)
                page.wait_for_selector("#live.on")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
                assert page.title().endswith("rocksyd")
            assert not complaints


def test_it_is_live_and_orders_can_be_given(tmp_path: Path) -> None:
    with daemon(tmp_path, "", JOBS + MORE) as served:
        talk = served.talk()
        there, held = web(talk), Gate(tmp_path / "held")
        with browser() as (page, complaints):
            page.goto(f"{there.address}/")
            page.wait_for_selector("#live.on")
            talk.rpc("run", target="gate", params=[str(held.path)], key="held")
            page.wait_for_selector("#running a[href='/run/held']")  # without a reload
            held.wait_entered()
            restart(served)
            page.wait_for_selector("footer b:text-is('2')")

            page.goto(f"{there.address}/run/held")
            page.click("text=Kill")
            page.click("text=End it?")
            page.wait_for_selector("h1 .o-cancelled")
            page.click("text=Retry")
            page.click("text=Run it again?")
            page.wait_for_selector("h1 .o-running")
            held.open("open")
            page.wait_for_selector("h1 .o-ok")

            page.goto(f"{there.address}/target/app/typed")
            page.fill("[name=name]", "oak")
            page.fill("[name=count]", "3")
            page.select_option("[name=loud]", "true")
            page.click("form.run button.primary")
            page.wait_for_url("**/run/*")
            page.wait_for_selector("h1 .o-ok")
            assert '"oak",\n  3,\n  true' in page.inner_text("#result")

            page.keyboard.press("g")
            page.keyboard.press("f")
            page.wait_for_url("**/search")
            page.fill("[name=target]", "typed")
            page.keyboard.press("Enter")
            page.wait_for_url("**/search?target=typed")
            assert page.locator("#found tbody tr").count() == 1
        assert not [one for one in complaints if "ERR_" not in one]  # a stream that the restart ended is no fault


def test_whatever_a_run_contains_no_script_runs(tmp_path: Path) -> None:
    with daemon(tmp_path, "", JOBS + MORE) as served:
        talk = served.talk()
        there = web(talk)
        key = ATTACK.replace("\x1b", "").replace("\x07", "")[:120]
        talk.rpc("run", target="hostile", params=[ATTACK + "y" * 200_000], key=key, labels={key: ATTACK})
        talk.rpc("wait", key=key)
        record = there.get("/runs?limit=1").json[0]
        assert record["key"] == key
        with browser() as (page, complaints):
            page.goto(f"{there.address}/search")
            page.click("#found a.key")
            page.wait_for_selector("#output:has-text('ValueError')")
            assert "\x1b" not in page.inner_text("#output")
            script = "%3Cscript%3Ewindow.hit=1%3C%2Fscript%3E"
            lists = ("/", "/errors", "/search", "/target/app/hostile")
            for path in (*lists, f"/errors?target={script}", f"/search?text=%22%3E{script}", f"/run/{script}"):
                page.goto(there.address + path)
                page.wait_for_selector("main")
                assert page.evaluate("window.hit") is None, path
                assert "49" not in page.title()
            assert not [one for one in complaints if "404" not in one]
