from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flaskcompat.runtime.keys import Keys, Principal, may_use, name_of, read_keys, split_entries

HASH = hashlib.sha256(b"hashed").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def bearer(keys: Keys, key: str) -> Principal | None:
    return keys.find(f"Bearer {key}")


def test_entries_of_every_form() -> None:
    keys = read_keys(f"ann=sk-ann, bob=sha256:{HASH} demo-* echo\n# nobody\n\nsha256:{OTHER.upper()},c2VjcmV0==", None)
    assert bearer(keys, "sk-ann") == Principal("ann")
    unnamed = bearer(keys, "c2VjcmV0==")
    assert unnamed is not None and unnamed.name.startswith("key-") and unnamed.models is None
    assert read_keys(f"bob=sha256:{HASH} demo-* echo", None).find("bearer hashed") == Principal(
        "bob", ("demo-*", "echo")
    )
    assert bearer(read_keys("sk=", None), "sk=") is not None
    assert bearer(read_keys(["ann=a,b"], None), "a,b") == Principal("ann"), "a list's entries are taken as they are"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic sk-ann", "sk-ann", "Bearer \xff"]
)
def test_what_is_no_key(header: str | None) -> None:
    assert Keys(["ann=sk-ann"]).find(header) is None


def test_key_that_is_not_ascii() -> None:
    assert Keys(["ann=schlüssel"]).find("Bearer " + "schlüssel".encode().decode("latin-1")) == Principal("ann")
    assert Keys(["ann=a"]).find("Bearer \u2603") is None
    for key in ("voilà", "Р", "Å"):  # in bytes, their ends look like spaces of Latin-1
        assert Keys([f"ann={key}"]).find("Bearer " + key.encode().decode("latin-1")) == Principal("ann")
    assert Keys(["ann=a"]).find("Bearer a\xa0") is None and Keys(["ann=a"]).find("Bearer  a ") is not None


def test_key_that_is_there_twice_is_refused() -> None:
    for entries in (["ann=a demo-*", "bob=a"], [f"sha256:{HASH}", "hashed"]):
        with pytest.raises(ValueError, match="API key 2 is there twice"):
            Keys(entries)


@pytest.mark.parametrize("entry", [f"ann=sha256:{HASH[:-1]}", "sha256:s3cret", ""])
def test_entry_that_cannot_be_read_is_not_repeated(entry: str) -> None:
    with pytest.raises(ValueError, match="API key 1") as error:
        Keys([entry])
    assert "s3cret" not in str(error.value) and HASH[:-1] not in str(error.value)


@pytest.mark.parametrize("text", ["", " ", ",", "\n# nothing\n"])
def test_setting_without_a_key_does_not_open_the_door(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FLASKCOMPAT_API_KEYS holds no key"):
        read_keys(text, None)
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match="FLASKCOMPAT_API_KEYS_FILE holds no key"):
        read_keys(None, tmp_path / "keys")


def test_file_adds_to_the_setting(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# those of the team\nann=one\nbob=two\n")
    keys = read_keys("eve=three", tmp_path / "keys")
    assert [p.name for key in ("one", "two", "three") if (p := bearer(keys, key))] == ["ann", "bob", "eve"]
    with pytest.raises(ValueError, match="cannot be read: FileNotFoundError"):
        read_keys(None, tmp_path / "none")


def test_nothing_shows_a_key() -> None:
    keys = Keys(["ann=s3cret", "s3cret2"])
    assert "s3cret" not in repr(keys) + repr(vars(keys)) and "ann" in repr(keys)
    assert keys and not Keys([]) and not read_keys(None, None)
    assert split_entries("a, b\n#c\nd") == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("principal", "name"),
    [
        (None, None),
        ("ann", "ann"),
        (Principal("bob"), "bob"),
        (SimpleNamespace(id=7), "7"),
        (SimpleNamespace(name=object(), id="x"), "x"),
        (SimpleNamespace(password="s3cret"), "SimpleNamespace"),
    ],
)
def test_names(principal: Any, name: str | None) -> None:
    assert name_of(principal) == name


def test_models() -> None:
    assert may_use(None, "m") and may_use("ann", "m") and may_use(Principal("ann"), "m")
    some = Principal("ann", ("demo-*", "echo"))
    assert may_use(some, "demo-rag") and may_use(some, "echo")
    assert not may_use(some, "echoes") and not may_use(Principal("ann", ()), "m")
