"""Responses that are made in the background: by a few threads of this process, into the log that the store keeps.

Whoever wants to see one reads the log, in this process or another. A response ends once, by whoever ends it first: by
the thread that makes it, by a client that cancels it, or by any process that finds that nobody speaks of it any more.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from math import inf
from typing import Any

from flaskcompat.errors import APIError, ConcurrencyLimit, PipelineError
from flaskcompat.fork import reset_in_child
from flaskcompat.log import log, logged_as, request_id
from flaskcompat.protocol.replay import split
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.admission import Admission, Places
from flaskcompat.runtime.invoke import Extras, Run, Tell, invoke
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.watch import Limits, Watch
from flaskcompat.stores.responses import ResponseStore

#: Responses that may wait for a thread.
MOST_WAITING = 1000
# How often the store is told that responses are still being made, and asked whether they were cancelled, in seconds.
_BEAT = 1.0
# How often those of processes that have ended are looked for, in beats.
_BEATS_TO_LOOK = 10


@dataclass(eq=False)
class Job:
    """One response that is to be made.

    :param method: the name of the method of *model* that makes it.
    :param payload: its input, with all that it goes on from.
    :param tell: makes what is told of an error.
    :param when_over: called when nothing more is made of it, with the code of its error, ``cancelled`` if it has ended
        elsewhere.
    """

    owner: str
    machine: ResponseMachine
    model: Model
    method: str
    payload: list[dict[str, Any]]
    body: dict[str, Any]
    extras: Extras
    limits: Limits
    tell: Tell
    request_id: str = field(default_factory=request_id.get)
    when_over: Callable[[str | None], None] | None = None
    error: str | None = None
    run: Run | None = None
    #: Whether it has ended elsewhere.
    ended: bool = False

    @property
    def id(self) -> str:
        return self.machine.id

    @property
    def label(self) -> str:
        return f"{self.model.name}.{self.method}"

    def stop(self) -> None:
        """It has ended elsewhere: make nothing more of it."""
        self.ended = True
        if self.run is not None:
            self.run.close()


class Background:
    """The responses that this process makes in the background.

    A response that is being made keeps its application alive. So if an application is dropped, its responses are made
    to their ends first; its threads end then.

    :param on_events: called with the id of a response that has new events in its log.
    """

    def __init__(self, admission: Admission, on_events: Callable[[str], None]) -> None:
        self._admission = admission
        self._on_events = on_events
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        #: The name of this process in the store.
        self.worker = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._changed = threading.Condition(threading.Lock())
        self._jobs: dict[str, Job] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._heart: threading.Thread | None = None
        self._beats = 0

    def submit(self, store: ResponseStore, job: Job, threads: int) -> None:
        """Have *job* made, in a copy of the current context; its response is in the *store* already.

        :param threads: how many are made at once; the first call decides.
        """
        with self._changed:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flaskcompat-background")
            self._look_after(store, job)
            self._pool.submit(copy_context().run, self._make, store, job, threads)

    def make(self, store: ResponseStore, job: Job) -> None:
        """Make *job* on this thread, whatever else is made; its response is in the *store* already."""
        with self._changed:
            self._look_after(store, job)
        self._speak(store, [job.id])  # it has waited for long: the store must know now who makes it
        self._make(store, job, None)

    def _look_after(self, store: ResponseStore, job: Job) -> None:
        if self._heart is None:
            heart = threading.Thread(target=self._beat, args=(store,), name="flaskcompat-background-heart", daemon=True)
            heart.start()
            self._heart = heart  # only now: where no thread can be had, the next one tries again
        self._jobs[job.id] = job

    def check_room(self) -> None:
        """:raises ConcurrencyLimit: if too many wait already."""
        if len(self._jobs) >= MOST_WAITING:
            raise ConcurrencyLimit

    def stop(self, id: str) -> None:
        """The response *id* has ended: make nothing more of it, if it is made here."""
        job = self._jobs.get(id)
        if job is not None:
            job.stop()

    # -- making ----------------------------------------------------------------------------------------------

    def _make(self, store: ResponseStore, job: Job, places: int | None) -> None:
        with logged_as(job.request_id):
            try:
                if not job.ended:
                    self._run(store, job, places)
            except BaseException as error:
                log.opt(exception=error).error("{} was not made in the background to its end", job.label)
            finally:
                with self._changed:
                    del self._jobs[job.id]
                    if not self._jobs:
                        self._changed.notify()
                self._on_events(job.id)
                if job.when_over is not None:
                    job.when_over("cancelled" if job.ended else job.error)

    def _run(self, store: ResponseStore, job: Job, places: int | None) -> None:
        try:
            limits = Places(places, MOST_WAITING, background=True)
            limit = job.model.wrapper.max_generations
            ticket = self._admission.enter(job.model.name, limits, limit, lambda: job.ended, patience=inf)
            try:
                run = invoke(
                    job.model, job.method, job.payload, job.body, job.extras, ticket, elsewhere=True, tell=job.tell
                )
                assert isinstance(run, Run)
            except BaseException:
                ticket.reader_done()
                raise
        except BaseException as error:
            self._end(store, job, [], error)
            return
        job.run = run
        if job.ended:  # meanwhile
            run.close()
        watch = Watch(run, job.limits, lambda: False, lambda: None)
        watch.begin()
        try:
            self._follow(store, job, run)
        finally:
            watch.end()
            run.close()

    def _follow(self, store: ResponseStore, job: Job, run: Run) -> None:
        """Write what comes into the log."""
        machine = job.machine
        number, items = machine.number, 0
        frames = "".join(map(machine.encode, machine.start()))
        known: dict[str, Any] | None = machine.streamed_result()
        while True:
            if frames:
                if not store.add_events(job.owner, job.id, number, split(frames), known):
                    return
                self._on_events(job.id)
            number, items, frames = machine.number, machine.items, ""
            try:
                batch = run.take()
                if job.ended:
                    return
                for item in batch:
                    frames += _frames(machine, item)
                machine.check_size()
            except BaseException as error:
                self._end(store, job, split(frames), error)
                return
            if run.ended:
                self._end(store, job, split(frames), run.error)
                return
            known = machine.streamed_result() if machine.items != items else None

    def _end(self, store: ResponseStore, job: Job, frames: list[str], error: BaseException | None) -> None:
        machine = job.machine
        if error is None:
            try:
                events = machine.end()
            except BaseException as failed:  # the wrapper broke its contract
                error = failed
        if error is not None:
            told = _as_api_error(job.tell, error)
            job.error = told.code or told.type
            events = machine.fail(told)
        answer = machine.streamed_result()
        store.end(job.owner, job.id, answer, [*frames, *map(machine.encode, events)])

    # -- telling the store -----------------------------------------------------------------------------------

    def _beat(self, store: ResponseStore) -> None:
        """Speak to the store of what is made, until nothing is."""
        while True:
            with self._changed:
                if self._jobs:
                    self._changed.wait(_BEAT)
                if not self._jobs:
                    self._heart = None
                    return
                ids = list(self._jobs)
            self._speak(store, ids)

    def _speak(self, store: ResponseStore, ids: list[str]) -> None:
        try:
            for id in store.still_made(self.worker, ids):
                self.stop(id)
            if self._beats % _BEATS_TO_LOOK == 0:
                store.end_lost()
        except Exception as error:  # it is tried again
            log.warning("the store was not told of {} responses: {}", len(ids), type(error).__name__)
        self._beats += 1


def _frames(machine: ResponseMachine, item: Any) -> str:
    if type(item) is str:
        return machine.text_frame(item) if item else ""
    return "".join(map(machine.encode, machine.take(item)))


def _as_api_error(tell: Tell, error: BaseException) -> APIError:
    try:
        told = tell(error)
    except BaseException:  # an error that cannot be looked at
        told = PipelineError()
    return told if isinstance(told, APIError) else PipelineError()
