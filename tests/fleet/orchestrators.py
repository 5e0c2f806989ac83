"""Small stand-ins for Airflow, Prefect and Temporal: as much of each as the recipes use, and what runs a task."""

from __future__ import annotations

import runpy
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import attrs

from tests.fleet.examples import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from datetime import timedelta

__all__ = ["ApplicationError", "Scheduled", "loaded", "run_task", "scheduled", "workflow"]


# Airflow


@attrs.frozen
class DateTimeTrigger:
    """A trigger that resumes its task at a moment."""

    moment: datetime = attrs.field(kw_only=True)


class TaskDeferred(BaseException):
    """How a task leaves its slot."""

    def __init__(self, trigger: DateTimeTrigger, method_name: str) -> None:
        super().__init__(trigger, method_name)
        self.trigger, self.method_name = trigger, method_name


class BaseOperator:
    """A task."""

    def __init__(self, *, task_id: str) -> None:
        self.task_id = task_id

    def defer(self, *, trigger: DateTimeTrigger, method_name: str) -> NoReturn:
        """Leave the slot until the trigger fires."""
        raise TaskDeferred(trigger, method_name)


class DAG:
    """A graph of tasks, of which the recipe needs the name alone."""

    def __init__(self, dag_id: str, *, schedule: str, start_date: datetime, catchup: bool) -> None:
        assert start_date.tzinfo is not None
        self.dag_id = dag_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def run_task(task: Any) -> tuple[Any, list[datetime]]:
    """Run a task as worker and triggerer do. Returns its result, and the moments that it was put off to."""
    moments, method = list[datetime](), "execute"
    while True:
        try:
            return getattr(task, method)({"run_id": "run-1"}, **({"event": moments[-1]} if moments else {})), moments
        except TaskDeferred as put_off:
            moments.append(put_off.trigger.moment)
            method = put_off.method_name
            time.sleep(max(0.0, (moments[-1] - datetime.now(UTC)).total_seconds()))


# Prefect


@attrs.frozen(kw_only=True)
class Scheduled:
    """A run of a deployment that is to come."""

    name: str
    parameters: Mapping[str, Any]
    scheduled_time: datetime


scheduled: Final = list[Scheduled]()


def _flow(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    return function


async def _run_deployment(
    name: str,
    *,
    parameters: Mapping[str, Any],
    scheduled_time: datetime,
    timeout: float,  # noqa: ASYNC109 - as there
) -> None:
    assert timeout == 0, "else the run would wait for the one that it has scheduled"
    scheduled.append(Scheduled(name=name, parameters=parameters, scheduled_time=scheduled_time))


# Temporal


workflow: Final = ContextVar[str]("workflow")


class ApplicationError(Exception):
    """A failure of an activity, and when the server is to try again."""

    def __init__(self, message: str, *, type: str, next_retry_delay: timedelta) -> None:  # noqa: A002 - as there
        super().__init__(message)
        self.type, self.next_retry_delay = type, next_retry_delay


_activity: Final = SimpleNamespace(
    defn=lambda function: function, info=lambda: SimpleNamespace(workflow_id=workflow.get())
)
_MODULES: Final[Mapping[str, Mapping[str, object]]] = {
    "airflow.sdk": {"DAG": DAG, "BaseOperator": BaseOperator},
    "airflow.providers.standard.triggers.temporal": {"DateTimeTrigger": DateTimeTrigger},
    "prefect": {"flow": _flow},
    "prefect.deployments": {"run_deployment": _run_deployment},
    "temporalio": {"activity": _activity},
    "temporalio.exceptions": {"ApplicationError": ApplicationError},
}


@contextmanager
def _in_their_place() -> Iterator[None]:
    modules = dict[str, ModuleType]()
    for name, names in _MODULES.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            modules.setdefault(package, ModuleType(package)).__path__ = []
        vars(modules[name]).update(names)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def loaded(example: str) -> SimpleNamespace:
    """Return what a file of the examples defines, the stand-ins in the place of the packages that it imports."""
    with _in_their_place():
        return SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / example)))
