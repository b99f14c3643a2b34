"""Django in workers: no connection of the preload is shared, and none goes stale from job to job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.zygotes import Zygote

pytest.importorskip("django")

SOURCE = """
    import django
    from django.conf import settings
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "data.sqlite3", "CONN_MAX_AGE": 0}}, DEBUG=True
    )
    django.setup()
    from django.db import connection
    from rocksyd import job

    def ask():
        with connection.cursor() as cursor:
            return cursor.execute("select 7").fetchone()[0]
    ask()
    was_open_at_preload = connection.connection is not None

    @job
    def query():
        fresh = connection.connection is None
        return [was_open_at_preload, fresh, ask(), len(connection.queries)]
"""


def test_each_job_has_its_own_connection(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",)) as zygote:
        zygote.ready()
        worker = zygote.fork()
        assert [worker.run("shop:query", last=last).value for last in (False, True)] == [[True, True, 7, 1]] * 2
        zygote.exited(worker)
        assert zygote.run("shop:query")[0].value == [True, True, 7, 1]
    assert "Traceback" not in zygote.stderr.read_text()
