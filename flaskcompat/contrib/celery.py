"""Background responses made by Celery's workers: ``celery -A flaskcompat.contrib.celery worker -P threads``.

A web process puts the response into the store and its id into the queue; a worker reads what it has to know from the
store, and writes the events there. So any broker will do, and whoever follows, cancels or reads the response needs the
store alone. The settings are those of the web processes, read from the environment; if ``FLASK_APP`` names an
application, its models are served with its own settings, and its ``g`` and database session are a run's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from celery import Celery
from flask import Flask
from flask.cli import ScriptInfo

from flaskcompat.app import create_app
from flaskcompat.blueprints.failures import failure
from flaskcompat.blueprints.responses import context_of, response_machine
from flaskcompat.blueprints.run_context import RunContexts
from flaskcompat.errors import NothingStored
from flaskcompat.log import log
from flaskcompat.runtime.background import Job
from flaskcompat.runtime.input_files import file_access
from flaskcompat.runtime.invoke import method_of
from flaskcompat.runtime.keys import Principal
from flaskcompat.runtime.run_context import run_contexts
from flaskcompat.runtime.state import states_of
from flaskcompat.runtime.watch import Limits
from flaskcompat.runtime.wrapper import Headers

BROKER_URL = "FLASKCOMPAT_CELERY_BROKER_URL"
TASK = "flaskcompat.make_response"


def make_celery(broker: str | None) -> Celery:
    """A Celery application on *broker*."""
    made = Celery("flaskcompat", broker=broker)
    # What comes of a task is in the store. A queue that cannot be reached is told at once.
    made.conf.update(task_ignore_result=True, task_publish_retry=False, broker_connection_retry_on_startup=True)
    return made


_making = threading.Lock()
#: For Celery's command line.
app = make_celery(os.environ.get(BROKER_URL))


def sender(broker: str) -> Callable[[str, str], None]:
    """A function that has a worker on *broker* make the response of an owner and an id."""
    celery = make_celery(broker)

    def send(owner: str, id: str) -> None:
        celery.send_task(TASK, args=[owner, id])

    return send


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def make_response(owner: str, id: str) -> None:
    """Make a response that waits in the store."""
    flask_app = _flask_app()
    try:
        with flask_app.app_context():
            make_stored(flask_app, owner, id)
    except Exception as error:  # such as a model that this worker does not have
        log.opt(exception=error).error("a response was not made")
        states_of(flask_app.extensions)[0].stores.responses.fail(id)


def _flask_app() -> Flask:
    """The application of this process, with the same wrappers and settings as the web processes."""
    with _making:  # many tasks may come at the start
        return _made_app()


@lru_cache(maxsize=1)
def _made_app() -> Flask:
    if path := os.environ.get("FLASK_APP"):
        return ScriptInfo(app_import_path=path).load_app()
    return create_app()


def make_stored(flask_app: Flask, owner: str, id: str) -> None:
    """Make the response *id* on this thread, to its end."""
    states = states_of(flask_app.extensions)
    store = states[0].stores.responses  # which all have in common
    try:
        task = store.task(owner, id)
    except NothingStored:  # cancelled or deleted while it waited
        log.info("a response that was to be made is not wanted any more")
        return
    body: dict[str, Any] = task.details["body"]
    state = next((state for state in states if body["model"] in state.registry), states[0])
    model = state.registry[body["model"]]
    method = method_of(model, "response")
    machine = response_machine(model, body)
    machine.go_on(task.response, task.number)
    details = task.details["principal"]
    principal = details and Principal(details["name"], details["models"] and tuple(details["models"]))
    headers = Headers([(name, value) for name, value in task.details["headers"]])
    config = flask_app.config
    job = Job(
        owner=owner,
        machine=machine,
        model=model,
        method=method,
        payload=[*context_of(state, owner, body).items, *task.given],
        body=body,
        extras={"headers": lambda: headers, "principal": lambda: principal},
        limits=Limits(total=config["FLASKCOMPAT_REQUEST_TIMEOUT"], between=config["FLASKCOMPAT_CHUNK_TIMEOUT"]),
        tell=partial(failure, label=f"{model.name}.{method}", tracebacks=config["FLASKCOMPAT_TRACEBACKS"]),
        request_id=task.details["request_id"],
    )
    with file_access(state.stores.files, owner, state.fetcher), run_contexts(RunContexts(request_waits=False).make):
        state.background.make(store, job)
