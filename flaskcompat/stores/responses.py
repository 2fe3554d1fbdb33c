"""Responses and chat completions that clients come back to, and the conversations that responses belong to."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from flaskcompat.errors import InvalidValue, NothingStored
from flaskcompat.log import log
from flaskcompat.protocol import sse
from flaskcompat.protocol.ids import IdFactory, new_id
from flaskcompat.protocol.listed_items import ID_PREFIXES, listed_item
from flaskcompat.protocol.responses import RUNNING, cancelled, lost
from flaskcompat.stores.records import Kind, LogPart, Page, Query, Record, Records, is_id
from flaskcompat.stores.retention import Retention

#: Items that a conversation may hand to a wrapper.
MOST_ITEMS = 10_000

#: Seconds after which a response that nobody speaks of counts as lost.
LOST_AFTER = 30.0
_MOST_LOST = 100

# A response that ended so is a part of its conversation.
_SAID = ("completed", "incomplete")
_WORDS = {"chat.completion": "chat completion"}
_OWN_ID = re.compile(r"[a-z]+_[0-9a-f]{32,37}")
_KINDS: tuple[Kind, ...] = ("response", "chat.completion", "conversation", "item")


@dataclass(frozen=True, slots=True)
class Context:
    """What a response goes on from.

    :param items: all that was said before, in order.
    :param previous: id of the response before it.
    :param conversation: id of its conversation.
    :param group: what the response is kept with; its own id by default.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    previous: str | None = None
    conversation: str | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A response that waits for a process to make it.

    :param given: its items, beside those that it goes on from.
    :param details: what :meth:`ResponseStore.begin` was given.
    :param number: the sequence number of its next event.
    """

    response: dict[str, Any]
    given: list[dict[str, Any]]
    details: dict[str, Any]
    number: int


class ResponseStore:
    """What is kept of answers, each for its owner alone.

    Methods that look something up raise :class:`~flaskcompat.errors.NothingStored` where it is not there, all of them
    :class:`~flaskcompat.stores.records.StorageUnavailable`.

    :param max_age: seconds for which an answer is kept after it was last continued; 0: until it is deleted.
    :param most: bytes that all of them may take; None: any number.
    :param clock: gives seconds since the epoch.
    """

    def __init__(
        self,
        records: Records,
        max_age: float,
        most: int | None,
        *,
        ids: IdFactory = new_id,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._retention = Retention(records, _KINDS, max_age, most, clock=clock)
        self._ids = ids
        self._clock = clock

    @property
    def waits(self) -> bool:
        """Whether saving may have to wait for something outside of this process."""
        return self._records.waits

    # -- responses -------------------------------------------------------------------------------------------

    def continued(self, owner: str, previous: str) -> Context:
        """The context of a response that goes on from the response *previous*: input and output of the whole chain."""
        chain = self._records.line(owner, previous) if is_id(previous) else []
        if not chain:
            raise NothingStored("response")
        items: list[dict[str, Any]] = []
        bodies = [record.body for record in chain]
        if bodies[-1]["response"]["status"] in RUNNING:
            raise InvalidValue("The previous response has not ended.", param="previous_response_id")
        if any(body["response"].get("conversation") for body in bodies):
            raise InvalidValue(
                "The previous response belongs to a conversation: give 'conversation' in place of it.",
                param="previous_response_id",
            )
        for body in bodies:
            items += body["input"]
            items += body["response"].get("output") or ()
        return Context(items, previous=previous, group=chain[-1].group)

    def in_conversation(self, owner: str, conversation: str) -> Context:
        """The context of a response in a conversation: all of its items."""
        self._known("conversation", owner, conversation)
        query = Query("item", owner, parent=conversation, limit=MOST_ITEMS)
        items = [record.body for record in self._records.page(query).records[::-1]]
        return Context(items, conversation=conversation, group=conversation)

    def save_response(
        self,
        owner: str,
        response: dict[str, Any],
        text: str,
        *,
        given: Sequence[Mapping[str, Any]],
        context: Context,
    ) -> None:
        """Keep a response that is over.

        :param text: it, as JSON.
        :param given: the items that it got beside its *context*.
        """
        now = self._clock()
        id = _stored_id(response["id"])
        if id is None:
            return
        record = Record(
            id=id,
            kind="response",
            owner=owner,
            text=f'{{"response":{text},"input":{sse.dumps(given)}}}',
            parent=context.previous,
            group=context.group,
            created_at=now,
            expires_at=self._retention.expiry(now),
        )
        records = [record]
        if context.conversation is not None and response.get("status") in _SAID:
            said = [*given, *(response.get("output") or ())]
            records += self._items(owner, context.conversation, said, now)
        self._save(records, extend=bool(context.group))

    # -- responses in the background -------------------------------------------------------------------------

    def begin(
        self,
        owner: str,
        response: dict[str, Any],
        given: Sequence[Mapping[str, Any]],
        context: Context,
        worker: str,
        frames: Sequence[str],
        *,
        task: dict[str, Any] | None = None,
        patience: float = 0.0,
    ) -> None:
        """Keep a response that is to be made in the background, and begin the log of its events with *frames*.

        :param given: the items that it gets beside its *context*.
        :param worker: the process that makes it.
        :param task: what another process has to know to make it.
        :param patience: seconds in which nobody needs to speak of it.
        """
        now = self._clock()
        record = Record(
            id=response["id"],
            kind="response",
            owner=owner,
            text=sse.dumps({"response": response, "input": given, "conversation": context.conversation, "task": task}),
            parent=context.previous,
            group=context.group,
            created_at=now,
            expires_at=self._retention.expiry(now),
        )
        keep = self._retention.max_age or None if context.group else None
        self._records.begin_run(record, worker, frames, now + patience, keep=keep)
        self._retention.tidy()

    def task(self, owner: str, id: str) -> Task:
        """What has to be known to make a response that waits for it."""
        body = self._known("response", owner, id).body
        number, ended = self._records.progress([id]).get(id, (0, True))
        if ended or body["task"] is None or body["response"]["status"] != "queued":
            raise NothingStored("response")
        return Task(body["response"], body["input"], body["task"], number)

    def add_events(
        self, owner: str, id: str, number: int, frames: Sequence[str], response: dict[str, Any] | None = None
    ) -> bool:
        """Add *frames* to the log, the first of which has that *number*; False if the response has ended.

        :param response: it, as far as it is known now.
        """
        record = None
        if response is not None:
            known = self._records.get("response", owner, id)
            if known is None:
                return False
            record = known.with_body(known.body | {"response": response})
        return self._records.add_events(id, number, frames, record)

    def end(self, owner: str, id: str, response: dict[str, Any], frames: Sequence[str]) -> bool:
        """End the log with *frames*; False if it has ended before.

        :param response: it, as it is now.
        """

        def end(record: Record, _: int) -> tuple[Record, Sequence[str], list[Record]]:
            body = record.body | {"response": response, "task": None}
            items: list[Record] = []
            if body["conversation"] is not None and response["status"] in _SAID:
                said = [*body["input"], *response["output"]]
                items = self._items(owner, body["conversation"], said, self._clock())
            return record.with_body(body), frames, items

        return self._records.end_run(id, end) is not None

    def cancel(self, owner: str, id: str) -> dict[str, Any] | None:
        """End a response that is being made in the background; gives it as it is then, None if it was made in front."""
        self._known("response", owner, id)
        if self._records.read_events(id, 0, 1) is None:
            return None
        ended = self._records.end_run(id, partial(_ended, cancelled))
        response: dict[str, Any] = (ended or self._known("response", owner, id)).body["response"]
        return response

    def fail(self, id: str) -> None:
        """End a response that nobody makes."""
        self._records.end_run(id, partial(_ended, lost))

    def log(self, owner: str, id: str, number: int, limit: int) -> LogPart | None:
        """Up to *limit* frames from that *number* on; None for a response that was made in front."""
        self._known("response", owner, id)
        return self._records.read_events(id, number, limit)

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """Of each of *ids* that has a log: how many events it has, and whether it has ended."""
        return self._records.progress(ids)

    def still_made(self, worker: str, ids: Sequence[str]) -> list[str]:
        """Say that *worker* is about *ids*; gives those that have ended."""
        return self._records.beat(worker, ids, self._clock())

    def end_lost(self) -> list[str]:
        """End what nobody has spoken of for :data:`LOST_AFTER` seconds: its process has ended. Gives the ids."""
        silent = self._records.silent_runs(self._clock() - LOST_AFTER, _MOST_LOST)
        return [id for id in silent if self._records.end_run(id, partial(_ended, lost)) is not None]

    def response(self, owner: str, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._known("response", owner, id).body["response"]
        return found

    def delete_response(self, owner: str, id: str) -> None:
        self._delete("response", owner, id)

    def input_items(self, owner: str, id: str) -> list[dict[str, Any]]:
        """The items that a response was given, beside its context, as lists show them."""
        given = self._known("response", owner, id).body["input"]
        return [listed_item(item, _derived_id(item, f"{id}:{number}")) for number, item in enumerate(given)]

    # -- chat completions ------------------------------------------------------------------------------------

    def save_completion(
        self,
        owner: str,
        completion: dict[str, Any],
        text: str,
        *,
        messages: Sequence[Mapping[str, Any]],
        metadata: Mapping[str, str],
    ) -> None:
        """Keep a chat completion that is over.

        :param text: it, as JSON.
        """
        now = self._clock()
        id = _stored_id(completion["id"])
        if id is None:
            return
        rest = sse.dumps({"metadata": metadata, "messages": messages})
        record = Record(
            id=id,
            kind="chat.completion",
            owner=owner,
            text=f'{{"completion":{text},{rest[1:]}',
            label=str(completion.get("model")),
            created_at=now,
            expires_at=self._retention.expiry(now),
        )
        self._save([record])

    def completion(self, owner: str, id: str) -> dict[str, Any]:
        return shown_completion(self._known("chat.completion", owner, id))

    def completions(self, query: Query, metadata: Mapping[str, str]) -> Page:
        """Those whose metadata have all of *metadata*."""
        if not metadata:
            return self._records.page(query)
        found: list[Record] = []
        while True:
            page = self._records.page(query)
            found += [record for record in page.records if metadata.items() <= record.body["metadata"].items()]
            if not page.has_more or len(found) > query.limit:
                return Page(found[: query.limit], len(found) > query.limit)
            query = replace(query, after=page.records[-1].id)

    def change_completion(self, owner: str, id: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Give it other metadata; gives it."""
        record = self._known("chat.completion", owner, id)
        body = record.body
        body["metadata"] = dict(metadata)
        self._change(record, body)
        return shown_completion(record.with_body(body))

    def delete_completion(self, owner: str, id: str) -> None:
        self._delete("chat.completion", owner, id)

    def messages(self, owner: str, id: str) -> list[dict[str, Any]]:
        """What a completion was given, each message with an id."""
        given = self._known("chat.completion", owner, id).body["messages"]
        return [{"content": None, **message, "id": f"{id}-{number}"} for number, message in enumerate(given)]

    # -- conversations ---------------------------------------------------------------------------------------

    def create_conversation(
        self, owner: str, items: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]
    ) -> dict[str, Any]:
        now = self._clock()
        id = self._ids("conv_")
        conversation = {"id": id, "object": "conversation", "created_at": int(now), "metadata": dict(metadata)}
        record = Record(
            id=id,
            kind="conversation",
            owner=owner,
            text=sse.dumps(conversation),
            created_at=now,
            expires_at=self._retention.expiry(now),
        )
        self._save([record, *self._items(owner, id, items, now)])
        return conversation

    def conversation(self, owner: str, id: str) -> dict[str, Any]:
        return self._known("conversation", owner, id).body

    def change_conversation(self, owner: str, id: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Give it other metadata; gives it."""
        record = self._known("conversation", owner, id)
        body = record.body | {"metadata": dict(metadata)}
        self._change(record, body)
        return body

    def delete_conversation(self, owner: str, id: str) -> None:
        self._delete("conversation", owner, id)

    def add_items(self, owner: str, conversation: str, items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add *items* at the end of a conversation; gives them as lists show them."""
        self._known("conversation", owner, conversation)
        now = self._clock()
        records = self._items(owner, conversation, items, now)
        self._save(records, extend=True)
        return [record.body for record in records]

    def items(self, query: Query) -> Page:
        """A part of the conversation ``query.parent``."""
        assert query.parent is not None
        self._known("conversation", query.owner, query.parent)
        return self._records.page(query)

    def item(self, owner: str, conversation: str, id: str) -> dict[str, Any]:
        return self._known("item", owner, id, conversation).body

    def delete_item(self, owner: str, conversation: str, id: str) -> dict[str, Any]:
        """Delete one item; gives the conversation."""
        found = self.conversation(owner, conversation)
        self._delete("item", owner, id, conversation)
        return found

    # -- all -------------------------------------------------------------------------------------------------

    def purge(self) -> int:
        """Delete what is too old or too much; gives how many records it was."""
        return self._retention.purge()

    def connect(self) -> None:
        """:raises CannotConnect: if the database cannot be opened."""
        self._records.connect()

    def close(self) -> None:
        self._records.close()

    def _save(self, records: Sequence[Record], *, extend: bool = False) -> None:
        if records:
            self._records.save(records, keep=self._retention.max_age or None if extend else None)
            self._retention.tidy()

    def _items(self, owner: str, conversation: str, items: Iterable[Mapping[str, Any]], now: float) -> list[Record]:
        made: dict[str, Record] = {}
        for item in items:
            id = item.get("id")
            if not (isinstance(id, str) and _OWN_ID.fullmatch(id)) or id in made:
                id = self._ids(_prefix(item))
            made[id] = self._item(owner, conversation, item, id, now)
        return list(made.values())

    def _item(self, owner: str, conversation: str, item: Mapping[str, Any], id: str, now: float) -> Record:
        return Record(
            id=id,
            kind="item",
            owner=owner,
            text=sse.dumps(listed_item(item, id)),
            parent=conversation,
            group=conversation,
            created_at=now,
            expires_at=self._retention.expiry(now),
        )

    def _known(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> Record:
        record = self._records.get(kind, owner, id, parent) if is_id(id) and is_id(parent or id) else None
        if record is None:
            raise NothingStored(_WORDS.get(kind, kind))
        return record

    def _change(self, record: Record, body: dict[str, Any]) -> None:
        if not self._records.change(record.with_body(body)):
            raise NothingStored(_WORDS.get(record.kind, record.kind))

    def _delete(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> None:
        if not is_id(id) or not is_id(parent or id) or not self._records.delete(kind, owner, id, parent):
            raise NothingStored(_WORDS.get(kind, kind))


def _ended(
    end: Callable[[Mapping[str, Any], int], tuple[dict[str, Any], list[str]]], record: Record, number: int
) -> Any:
    body = record.body
    response, frames = end(body["response"], number)
    return record.with_body(body | {"response": response, "task": None}), frames, ()


def _stored_id(id: Any) -> str | None:
    if isinstance(id, str) and is_id(id):
        return id
    log.warning("an answer is not kept: its id, made by the wrapper, is none to be asked for")
    return None


def _derived_id(item: Mapping[str, Any], place: str) -> str:
    """The id of an item that has none, the same each time."""
    id = item.get("id")
    if isinstance(id, str) and id:
        return id
    return _prefix(item) + hashlib.sha256(place.encode()).hexdigest()[:32]


def _prefix(item: Mapping[str, Any]) -> str:
    return ID_PREFIXES.get(str(item.get("type") or "message"), "item_")


def shown_completion(record: Record) -> dict[str, Any]:
    """A stored chat completion as clients see it."""
    body = record.body
    return {**body["completion"], "metadata": body["metadata"]}
