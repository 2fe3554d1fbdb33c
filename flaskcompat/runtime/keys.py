"""API keys, and whom a request comes from."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from uuid import UUID

_NAME = r"[A-Za-z0-9._-]{1,64}"
_NAMED = re.compile(rf"({_NAME})=([^=].*)", re.S)
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request comes from.

    :param name: for logs and for what is to belong to somebody; never the key.
    :param models: names of the models it may use, with ``*`` as a wildcard; None: all.
    """

    name: str
    models: tuple[str, ...] | None = None


def name_of(principal: Any) -> str | None:
    """A name for *principal*, whatever a host's login gives: a text, or an object with ``name`` or ``id``."""
    if principal is None or isinstance(principal, str):
        return principal
    for attribute in ("name", "id"):
        value = getattr(principal, attribute, None)
        if isinstance(value, str | int):
            return str(value)
    return type(principal).__name__  # not its repr: who knows what is in there


def owner_of(principal: Any) -> str | None:
    """Whose is what *principal* stores: a text that is no other's; None where nobody can tell.

    A host's own principals are told apart by ``id``, those without one by ``name``; never taken for one of the keys.
    """
    if principal is None:
        return ""
    if isinstance(principal, Principal):
        return f"key:{principal.name}"
    own = principal
    if not isinstance(principal, str | int):
        own = getattr(principal, "id", None)
        if own is None:
            own = getattr(principal, "name", None)
    # By nothing else: two may look alike.
    return f"user:{own}" if isinstance(own, str | int | UUID) and not isinstance(own, bool) else None


def may_use(principal: Any, model: str) -> bool:
    """Whether *principal* may use *model*: all of them, unless it has ``models``."""
    allowed = getattr(principal, "models", None)
    return allowed is None or any(fnmatchcase(model, pattern) for pattern in allowed)


class Keys:
    """A set of keys; holds digests of them alone.

    :param entries: each ``[NAME=]KEY [MODEL ...]``, where ``KEY`` may be ``sha256:`` and 64 hex digits.
    :raises ValueError: for an entry that is none; the text does not repeat it.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._principals: dict[bytes, Principal] = {}
        for number, entry in enumerate(entries, 1):
            digest, principal = _read(entry, number)
            if digest in self._principals:  # with two lists of models, which one holds?
                raise ValueError(f"API key {number} is there twice")
            self._principals[digest] = principal

    def __bool__(self) -> bool:
        return bool(self._principals)

    def __repr__(self) -> str:
        return f"Keys({[principal.name for principal in self._principals.values()]})"

    @property
    def principals(self) -> tuple[Principal, ...]:
        """Those that have a key."""
        return tuple(self._principals.values())

    def find(self, authorization: str | None) -> Principal | None:
        """Whose key stands in an ``Authorization`` header; takes as long for a wrong key as for a right one."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = hashlib.sha256(_wire_bytes(key.strip(" \t"))).digest()
        found = None
        for digest, principal in self._principals.items():
            if hmac.compare_digest(given, digest):
                found = principal
        return found


def make_key(name: str, models: Iterable[str] = ()) -> tuple[str, str]:
    """A new key for *name*, and the entry that lets it in, which has the key's digest alone.

    :raises ValueError: for a name or a model that an entry has no form for.
    """
    if not re.fullmatch(_NAME, name):
        raise ValueError("a name has up to 64 letters, digits, dots, dashes and underscores")
    models = tuple(models)
    if any(not model or re.search(r"[\s,]", model) for model in models):
        raise ValueError("a model has no spaces and no commas")
    key = f"sk-{secrets.token_urlsafe(32)}"
    return key, " ".join([f"{name}=sha256:{_digest(key).hex()}", *models])


def decode_keys(data: bytes) -> str:
    """The text of a file of keys, which some editors begin with a byte order mark.

    :raises UnicodeDecodeError: if it is no UTF-8.
    """
    return data.decode("utf-8-sig")


def split_entries(text: str) -> list[str]:
    """The entries of a setting or a file: one on a line or between commas; ``#`` begins a comment line."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]


def read_keys(given: str | Iterable[str] | None, file: str | Path | None) -> Keys:
    """The keys of both settings.

    :raises ValueError: for an entry that is none, or a file that cannot be read or holds no key.
    """
    entries = split_entries(given) if isinstance(given, str) else list(given or ())
    if given is not None and not entries:  # a secret that was not filled in must not open the door
        raise ValueError("FLASKCOMPAT_API_KEYS holds no key")
    if file is not None:
        try:
            found = split_entries(decode_keys(Path(file).read_bytes()))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"FLASKCOMPAT_API_KEYS_FILE cannot be read: {type(error).__name__}") from None
        if not found:
            raise ValueError("FLASKCOMPAT_API_KEYS_FILE holds no key")
        entries += found
    return Keys(entries)


def _read(entry: str, number: int) -> tuple[bytes, Principal]:
    key, *models = entry.split() or [""]
    named = _NAMED.fullmatch(key)
    name, key = (named[1], named[2]) if named else (None, key)
    if not key:
        raise ValueError(f"API key {number} is empty")
    if key.startswith("sha256:"):
        hashed = _DIGEST.fullmatch(key)
        if hashed is None:
            raise ValueError(f"API key {number}: after sha256: there must be 64 hex digits")
        digest = bytes.fromhex(hashed[1])
    else:
        digest = _digest(key)
    # Told apart in logs by something that is no help in guessing the key.
    return digest, Principal(name or f"key-{hashlib.sha256(digest).hexdigest()[:8]}", tuple(models) or None)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _wire_bytes(text: str) -> bytes:
    """The bytes of a header's value, which WSGI hands over as Latin-1."""
    return text.encode("latin-1", "replace")
