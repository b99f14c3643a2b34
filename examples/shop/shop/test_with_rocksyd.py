"""The shop's jobs under rocksyd, tested with its fixtures: ``python -m pytest`` in ``examples/shop``, with rocksyd installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rocksyd.testing import Daemon, Eager, FakeClock


def test_a_report_ordered_as_a_caller_orders_it(database: None, rocksyd_eager: Eager) -> None:
    assert rocksyd_eager.call("place_orders", count=3)["orders"] == 3
    run = rocksyd_eager.run("daily_report", key="today")
    assert run.record["outcome"] == "ok"
    assert "written to" in "".join(run.logs())


def test_a_management_command_is_a_job(database: None, rocksyd_eager: Eager) -> None:
    said = rocksyd_eager.call("django:send_digest", to="owner@example.com", hours=1)
    assert said.endswith("was sent to owner@example.com")


def test_progress_is_told(rocksyd_eager: Eager, rocksyd_clock: FakeClock) -> None:
    record = rocksyd_eager.run("reprice", articles=100).record
    assert record["progress"]["done"] == record["result"]["looked_at"] == 100
    assert record["ended_at"] == rocksyd_clock.now().wall


def test_the_shop_can_be_preloaded_and_restarted(database: None, rocksyd_daemon: Daemon) -> None:
    with rocksyd_daemon.client() as client:
        before = client.call("count_orders")
        assert client.call("place_orders", count=2) == {"placed": 2, "orders": before + 2}
        client.restart()
        assert client.call("count_orders") == before + 2
