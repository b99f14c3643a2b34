"""The pages in headless Chromium, as Debian has it: each without an error and accessible, live, with its orders, and harmless."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rocksyd.journal.store import Journal
from rocksyd.journal.tables import RUNS as TABLE
from rocksyd.model import ENDED, Attempt, Order, Run
from rocksyd.testing.daemon import until
from tests.companions.stage import Gate
from tests.gateway.stage import daemon, web
from tests.restart.stage import JOBS, restart
from tests.seeing.stage import may_look

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

@job
def paints(path):
    print("\\033[32mread\\033[0m plain \\033[1;91mbroken\\033[", end="", flush=True)
    open(path).close()
    print("0;36mcut\\033[39m \\033[38;5;31mmany \\033[2Jgone\\033[m", flush=True)

@job
def returns(text):
    return {text: [text]}

@job
def spins(path):
    while not os.path.exists(path):
        innermost()

def innermost():
    return sum(number * number for number in range(1000))
'''
ATTACK = (
    "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'><svg onload=window.hit=1>\x1b[31m\x1b]0;x\x07\u202e{{7*7}}"
)
PAGES = (
    "/", "/targets", "/target/app/typed", "/schedules", "/schedule/nightly", "/restarts", "/errors", "/search", "/api", "/login",
    "/run/running", "/run/waiting", "/run/failed", "/run/k17", "/run/k17/flame",
)  # fmt: skip
RUNS = 10_000
MEGABYTE = (1 << 20) - 2000
"""As long as a line of a request may be, without what else is in it."""
SHOWN = 512 << 10
"""Bytes of a page, at most, whatever its runs contain."""
AXE = files("axe_playwright_python") / "axe.min.js"


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


def fill(folder: Path, number: int) -> None:
    """A journal with so many ended runs, the latest ones in the last hour, a tenth of them failed."""
    (folder / "var").mkdir()
    now = time.time()
    with closing(Journal(str(folder / "var" / "journal.sqlite"), sync="normal")) as journal:
        journal.own()
        for place in range(number):
            at = now - 2 * (number - place)
            order = Order(
                "app", "typed", "jobs:typed", params=["oak", place], submitted_at=at - 3, labels={"tenant": str(place % 7)}
            )
            attempt = Attempt(outcome="failed" if place % 10 == 0 else "ok", retcode=0, started_at=at - 1, ended_at=at)
            run = Run(f"k{place}", order, attempt, state=ENDED, pool="app", sequence=place, rev=place)
            journal._db.execute(TABLE.put, TABLE.row(run.key, run))


def faults(page: Any) -> list[str]:
    """What axe, which has been loaded, finds on a page."""
    found = page.evaluate("options => axe.run(options)", {"resultTypes": ["violations"]})["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def looked_at(page: Any, path: str) -> None:
    """The page is complete, fits a window that is wide and light and one that is narrow and dark, and is accessible in both."""
    page.wait_for_selector("#live.on, body[data-live='']")
    assert page.title().endswith("rocksyd")
    page.evaluate(AXE.read_text())
    for width, scheme in ((1360, "light"), (390, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        # Charts are drawn anew when they have heard of the new width.
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
        assert (path, scheme, faults(page)) == (path, scheme, [])


@pytest.mark.timeout(400)
def test_every_page_with_ten_thousand_runs_is_drawn_without_an_error_fits_the_window_and_is_accessible(tmp_path: Path) -> None:
    fill(tmp_path, RUNS)
    with daemon(tmp_path, SCRIPTS, JOBS + MORE, 'pm = "static"\nmax_workers = 1') as served, browser() as (page, complaints):
        talk = served.talk()
        there, held = web(talk), Gate(tmp_path / "held")
        talk.rpc("run", target="hostile", params=["it is broken"], key="failed", labels={"a": "b"})
        talk.rpc("wait", key="failed")
        talk.rpc("run", target="gate", params=[str(held.path)], key="running")
        held.wait_entered()
        talk.rpc("run", target="typed", params=["x"], key="waiting")
        for path in PAGES:
            page.goto(there.address + path, wait_until="domcontentloaded")
            looked_at(page, path)
        held.open("open")

        page.goto(f"{there.address}/search?target=typed&outcome=failed")
        seen = page.locator("#found a.key").all_inner_texts()
        assert len(set(seen)) == 100
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.textContent") == seen[0]
        page.click("a[rel=next]")
        page.wait_for_url("**after=**")
        further = page.locator("#found a.key").all_inner_texts()
        assert len(set(further)) == 100
        assert not set(seen) & set(further)
        # Of what no index leads to the latest are found, and one can always look further back.
        page.goto(f"{there.address}/search?label=tenant%3D3")
        found = page.locator("#found a.key").all_inner_texts()
        assert found[:2] == ["k9999", "k9992"]
        page.click("a[rel=next]")
        page.wait_for_url("**until=**")
        assert page.locator("#found a.key").count() > 0
        page.goto(f"{there.address}/search?label=tenant%3Dnobody&since=30m")
        page.wait_for_selector("text=No run fits.")
        assert not complaints


@pytest.mark.timeout(400)
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

            talk.rpc("run", target="typed", params=["oak"], key="later", delay="1h")
            page.goto(f"{there.address}/run/later")
            page.click("text=Change it while it waits")
            page.fill("#change [name=params]", '["elm", 2]')
            page.fill("#change [name=priority]", "7")
            page.fill("#change [name=delay]", "0")
            page.click("#change button")
            page.wait_for_selector("h1 .o-ok")
            assert '"elm",\n  2,\n  false' in page.inner_text("#result")
            assert talk.rpc("status", key="later")["priority"] == 7

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
            assert page.locator("#found tbody tr").count() == 2
        assert not [one for one in complaints if "ERR_" not in one]  # a stream that the restart ended is no fault


@pytest.mark.timeout(400)
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


@pytest.mark.timeout(400)
def test_colours_of_an_output_are_shown_also_where_a_piece_of_it_ends_within_one_and_nothing_else_that_steers(
    tmp_path: Path,
) -> None:
    with daemon(tmp_path, "", JOBS + MORE) as served:
        talk, go = served.talk(), tmp_path / "go"
        os.mkfifo(go)
        talk.rpc("run", target="paints", params=[str(go)], key="painted")
        with browser() as (page, complaints):
            page.goto(f"{web(talk).address}/run/painted")
            page.wait_for_selector("#output:has-text('broken')")
            with go.open("w"):
                page.wait_for_selector("#output:has-text('many')")
            page.wait_for_selector("h1 .o-ok")
            assert page.inner_text("#output").strip() == "read plain brokencut many gone"
            inks = page.eval_on_selector_all("#output span", "all => all.map(one => [one.className, one.textContent])")
            assert inks == [["ink-ok", "read"], ["ink-bad bold", "broken"], ["ink-accent", "cut"]]
            looked_at(page, "/run/painted")
            assert not complaints


@pytest.mark.timeout(400)
def test_a_page_stays_small_and_fits_whatever_lines_of_a_megabyte_its_runs_have(tmp_path: Path) -> None:
    lines = {"plain": "w" * MEGABYTE, "tags": "<script>window.hit=1</script>" * (MEGABYTE // 29)}
    with daemon(tmp_path, "[history]\n", JOBS + MORE) as served:
        talk = served.talk()
        there = web(talk)
        for name, line in lines.items():
            talk.rpc("run", target="hostile", params=[line], key=name, labels={"l": line[:1000]})
            assert talk.rpc("wait", key=name)["outcome"] == "failed"
        talk.rpc("run", target="returns", params=[lines["tags"][: MEGABYTE // 3]], key="returned")
        assert talk.rpc("wait", key="returned")["outcome"] == "ok"
        until(lambda: len(talk.rpc("history.search", text="ValueError")) == 2, "the output to be found")
        lists = ("/", "/targets", "/target/app/hostile", "/errors", "/search", "/search?text=ValueError")
        with browser(viewport={"width": 390, "height": 800}) as (page, complaints):
            for path in (*lists, "/run/plain", "/run/tags", "/run/returned"):
                assert (path, len(there.get(path).text) <= SHOWN) == (path, True)
                page.goto(there.address + path)
                page.wait_for_selector("#live.on, body[data-live='']")
                if path in ("/run/plain", "/run/tags"):
                    page.wait_for_selector("#output:has-text('ValueError')")
                    assert len(page.inner_text("#output")) <= SHOWN
                page.wait_for_function("() => document.documentElement.scrollWidth <= 390")
                assert page.evaluate("window.hit") is None, path
            assert not complaints


@pytest.mark.timeout(400)
def test_a_flame_graph_of_a_run_comes_to_its_page_by_itself(tmp_path: Path) -> None:
    if trouble := may_look():
        pytest.skip(f"no process may look at another one here: {trouble}")
    with daemon(tmp_path, "[profiler]\n", JOBS + MORE) as served:
        talk = served.talk()
        there = web(talk)
        talk.rpc("run", target="spins", params=[str(tmp_path / "end")], key="spins")
        with browser() as (page, complaints):
            page.goto(f"{there.address}/run/spins")
            page.click("text=Flame graph")
            page.wait_for_url("**/run/spins/flame")
            page.wait_for_selector("#looking, #picture svg")
            page.wait_for_selector("#picture svg")
            (tmp_path / "end").touch()
            assert "innermost" in page.inner_text("#functions")
            assert "innermost" in page.text_content("#picture svg")
            looked_at(page, "/run/spins/flame")
            assert not complaints
