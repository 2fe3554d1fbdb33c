"""What one application has of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flaskcompat.runtime.admission import Admission
from flaskcompat.runtime.background import Background
from flaskcompat.runtime.fetching import Fetcher
from flaskcompat.runtime.following import Followers
from flaskcompat.runtime.keys import Keys
from flaskcompat.runtime.loader import PipelinesFolder
from flaskcompat.runtime.registry import Model, Registry
from flaskcompat.stores.opening import Stores

#: Where an application keeps its state: ``app.extensions[EXTENSION]``. One that has the API more than once has the
#: others under the names they were given.
EXTENSION = "flaskcompat"


@dataclass
class State:
    """Its models, its keys, what it stores, and the answers being made; in ``app.extensions["flaskcompat"]``.

    :param folder: where its models were loaded from; None if they were added one by one.
    :param prefixes: what the names of its endpoints begin with, by where its blueprint is registered.
    :param send: has another process make a response in the background, by its owner and its id; None: it is made here.
    :param fetcher: gets what requests name by a URL; None: nothing.
    :param authenticate: a host's own login: gives for a Flask request whom it comes from, None for nobody.
    """

    registry: Registry = field(default_factory=Registry)
    keys: Keys = field(default_factory=lambda: Keys(()))
    authenticate: Callable[[Any], Any] | None = None
    admission: Admission = field(default_factory=Admission)
    send: Callable[[str, str], None] | None = None
    fetcher: Fetcher | None = None
    stores: Stores = field(default_factory=Stores.in_memory)
    folder: PipelinesFolder | None = None
    prefixes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.followers = Followers(lambda: self.stores.responses)
        self.background = Background(self.admission, self.followers.tell)

    def share(self, first: State) -> None:
        """Keep what is kept where *first* does, and count answers with its own: both are of one application."""
        self.stores, self.admission = first.stores, first.admission
        self.followers, self.background = first.followers, first.background

    @property
    def guarded(self) -> bool:
        """Whether anybody is asked who they are."""
        return bool(self.keys) or self.authenticate is not None


def states_of(extensions: Mapping[str, object]) -> list[State]:
    """The states of an application, by its ``extensions``; the first one is of the API that was added first."""
    return [value for value in extensions.values() if isinstance(value, State)]


def models_of(extensions: Mapping[str, object]) -> tuple[list[Model], list[tuple[str, str]]]:
    """The models of an application, by its ``extensions``, and the names of those that failed to load, with why."""
    registries = [state.registry for state in states_of(extensions)]
    failed = [item for registry in registries for item in sorted(registry.failed.items())]
    return [model for registry in registries for model in registry], failed
