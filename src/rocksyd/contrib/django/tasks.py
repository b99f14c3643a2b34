"""A backend for Django's tasks: of Django 6 (``django.tasks``), or of the package ``django-tasks`` for versions before it.

    TASKS = {"default": {"BACKEND": "rocksyd.contrib.django.tasks.Backend"}}

What must live here: a task as an order, a record as a task's result, and the job that runs tasks.
What this file must not know: how an order waits for its transaction (``outbox``).
"""

from __future__ import annotations

import builtins
import importlib
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from rocksyd.contrib.django import conf
from rocksyd.errors import JobError, NotFound

JOB = "django:tasks.run"
"""The short name of the job that runs tasks."""
OUTBOX = "rocksyd.contrib.django.outbox"


def library() -> str:
    """Whose tasks they are: the package's where the project has it among its applications, or Django has none of its own."""
    if "django_tasks" in settings.INSTALLED_APPS:
        return "django_tasks"
    try:
        importlib.import_module("django.tasks")
    except ImportError:
        return "django_tasks"
    return "django.tasks"


_HOME = library()
_backends, _base, _errors, _signals = (
    importlib.import_module(f"{_HOME}.{name}") for name in ("backends.base", "base", "exceptions", "signals")
)
_Base: Any = _backends.BaseTaskBackend


class Backend(_Base):  # type: ignore[misc]
    """Tasks are runs of the project's daemon.

    With ``rocksyd.contrib.django.outbox`` in INSTALLED_APPS a task exists exactly when the transaction is committed in which it
    was enqueued. ``OPTIONS``: ``APP`` (the application at the daemon, where it has several), ``DATABASE`` (whose transaction it
    is; "default"), ``OUTBOX`` (False: order it at once all the same).
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        options = params.get("OPTIONS", {})
        self.app: str | None = options.get("APP")
        self.database: str = options.get("DATABASE", DEFAULT_DB_ALIAS)
        self.outbox = bool(options.get("OUTBOX", True))

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Order the task; where there is an outbox, once the transaction is committed."""
        self.validate_task(task)
        found = _result(task, uuid4().hex, args, kwargs, enqueued_at=datetime.now(UTC))
        options: dict[str, Any] = {
            "key": found.id,
            "priority": task.priority or None,
            "eta": task.run_after.timestamp() if task.run_after is not None else None,
            "labels": {"task": task.module_path[:200], "queue": str(task.queue_name)[:200]},
            "app": self.app,
        }
        order = {name: value for name, value in options.items() if value is not None}
        params = {"task": task.module_path, "backend": self.alias, "args": found.args, "kwargs": found.kwargs}
        if self.outbox and apps.is_installed(OUTBOX):
            from rocksyd.contrib.django import outbox  # noqa: PLC0415  (it has a model: only where it is installed)

            outbox.order(JOB, using=self.database, params=params, **order)
        else:
            with conf.client() as client:
                client.run(JOB, params=params, **order)
        _signals.task_enqueued.send(type(self), task_result=found)
        return found

    def get_result(self, result_id: str) -> Any:
        """How a task is. Raises TaskResultDoesNotExist."""
        try:
            with conf.client() as client:
                return result_of(client.status(str(result_id)))
        except (NotFound, _errors.TaskResultDoesNotExist):
            found = self._waiting(str(result_id))
            if found is None:
                raise _errors.TaskResultDoesNotExist(str(result_id)) from None
            return found

    def _waiting(self, key: str) -> Any:
        """One that is still in the outbox; None where it is not."""
        if not (self.outbox and apps.is_installed(OUTBOX)):
            return None
        from rocksyd.contrib.django import outbox  # noqa: PLC0415  (as above)

        row = outbox.find(key, using=self.database)
        if row is None or row.order.get("target") != JOB:
            return None
        params = row.order["params"]
        return _result(task_of(params), key, params["args"], params["kwargs"], enqueued_at=row.created)


def task_of(params: dict[str, Any]) -> Any:
    """The task that an order names. Raises JobError: there is none of that name."""
    try:
        found = import_string(params["task"])
    except ImportError as error:
        raise JobError(f"there is no task {params['task']!r}: {error}") from error
    if not isinstance(found, _base.Task):
        raise JobError(f"{params['task']!r} is no task: decorate it with @task")
    return found


def _result(task: Any, key: str, args: Any, kwargs: Any, **known: Any) -> Any:
    given = {
        "status": _base.TaskResultStatus.READY, "enqueued_at": None, "started_at": None, "last_attempted_at": None,
        "finished_at": None, "backend": task.backend, "errors": [], "worker_ids": [], **known,
    }  # fmt: skip
    return _base.TaskResult(task=task, id=key, args=list(args), kwargs=dict(kwargs), **given)


def result_of(record: dict[str, Any]) -> Any:
    """A task's result, from the record of its run. Raises TaskResultDoesNotExist: it is the run of something else."""
    params = record.get("params")
    if record["target"] != JOB or not isinstance(params, dict):
        raise _errors.TaskResultDoesNotExist(record["key"])
    status = _base.TaskResultStatus
    state = status.RUNNING if record["state"] == "running" else status.READY
    if record["state"] == "ended":
        state = status.SUCCESSFUL if record["outcome"] == "ok" else status.FAILED
    attempts = [*record["attempts"], record]
    found = _result(
        task_of(params), record["key"], params["args"], params["kwargs"], status=state,
        enqueued_at=_moment(record["submitted_at"]),
        started_at=_moment(attempts[0].get("started_at")),
        last_attempted_at=_moment(record["started_at"]),
        finished_at=_moment(record["ended_at"]) if record["state"] == "ended" else None,
        backend=params.get("backend", "default"),
        errors=[_error(one) for one in attempts if one.get("outcome") not in (None, "", "ok")],
        worker_ids=[f"{one.get('generation')}:{one.get('pid')}" for one in attempts if one.get("started_at")],
    )  # fmt: skip
    object.__setattr__(found, "_return_value", record["result"])
    return found


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _error(attempt: dict[str, Any]) -> Any:
    error = attempt.get("error") or {}
    kind = str(error.get("type") or "JobFailed")
    if "." not in kind:
        kind = f"{'builtins' if hasattr(builtins, kind) else 'rocksyd.errors'}.{kind}"
    text = error.get("traceback") or error.get("message") or f"the run has ended as {attempt.get('outcome')}"
    return _base.TaskError(exception_class_path=kind, traceback=str(text))


def run(task: str, args: list[Any], kwargs: dict[str, Any], backend: str = "default") -> Any:
    """Run a task: in a worker."""
    from rocksyd.jobs import current  # noqa: PLC0415  (a web server that only enqueues needs none of it)

    found, me = task_of({"task": task}), current()
    now = datetime.now(UTC)
    result = _result(
        found, me.key, args, kwargs, status=_base.TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now,
        backend=backend,
        worker_ids=[str(number + 1) for number in range(me.attempt)],
    )  # fmt: skip
    _signals.task_started.send(type(found.get_backend()), task_result=result)
    context = [_base.TaskContext(task_result=result)] if found.takes_context else []
    try:
        value = found.call(*context, *args, **kwargs)
    except BaseException as error:
        _finished(found, result, _base.TaskResultStatus.FAILED, error)
        raise
    object.__setattr__(result, "_return_value", value)
    _finished(found, result, _base.TaskResultStatus.SUCCESSFUL)
    return value


def _finished(task: Any, result: Any, status: Any, error: BaseException | None = None) -> None:
    if error is not None:
        path = f"{type(error).__module__}.{type(error).__qualname__}"
        result.errors.append(_base.TaskError(exception_class_path=path, traceback=f"{type(error).__name__}: {error}"))
    object.__setattr__(result, "finished_at", datetime.now(UTC))
    object.__setattr__(result, "status", status)
    _signals.task_finished.send(type(task.get_backend()), task_result=result)
