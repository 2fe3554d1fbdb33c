"""``flask flaskcompat keys ...``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
from click.testing import Result
from flask import Flask

from flaskcompat import FlaskCompat
from flaskcompat.commands.keys import _add, keys_commands
from flaskcompat.runtime.keys import Principal, make_key, read_keys

from .support import TIMEOUT


def run(*arguments: str, keys: str | None = None, typed: str | None = None) -> Result:
    app = Flask("host")
    app.config["FLASKCOMPAT_API_KEYS"] = keys
    FlaskCompat(app)
    return app.test_cli_runner().invoke(keys_commands, arguments, input=typed)


def test_new_key_is_the_one_of_its_line() -> None:
    done = run("new", "ann", "demo-*", "echo")
    key, line = done.stdout.splitlines()
    assert done.exit_code == 0 and key.startswith("sk-") and len(key) > 40 and key not in line
    assert read_keys(line, None).find(f"Bearer {key}") == Principal("ann", ("demo-*", "echo"))
    assert run("new", "ann").stdout.splitlines()[0] != key


@pytest.mark.parametrize(
    "arguments", [["a b"], ["ann="], ["x" * 65], [""], ["ann", "a b"], ["ann", "a,b"], ["ann", ""], ["ann\n"]]
)
def test_what_a_line_has_no_form_for(arguments: list[str]) -> None:
    done = run("new", *arguments)
    assert done.exit_code == 2 and done.output.count("Error: a ") == 1 and done.stdout == ""
    with pytest.raises(ValueError):
        make_key(arguments[0], arguments[1:])


def test_line_is_added_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = run("new", "ann", "--add", str(file))
    assert file.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [file]
    file.chmod(0o640)
    file.write_text(f"# those of the team\n{file.read_text().strip()}")
    second = run("new", "bob", "demo-*", "--add", str(file))
    assert file.stat().st_mode & 0o777 == 0o640
    lines = file.read_text().splitlines()
    assert len(lines) == 3 and lines[0] == "# those of the team" and file.read_text().endswith("\n")
    keys = read_keys(None, file)
    for done, principal in ((first, Principal("ann")), (second, Principal("bob", ("demo-*",)))):
        [key] = done.stdout.splitlines()
        assert keys.find(f"Bearer {key}") == principal and key not in file.read_text()


def test_key_is_written_to_a_file_of_its_own(tmp_path: Path) -> None:
    keys, own = tmp_path / "keys", tmp_path / "ann.key"
    before = os.umask(0)
    try:
        done = run("new", "ann", "--add", str(keys), "--out", str(own))
    finally:
        os.umask(before)
    assert (done.exit_code, done.output) == (0, "") and own.stat().st_mode & 0o777 == 0o600
    assert read_keys(None, keys).find(f"Bearer {own.read_text().strip()}") == Principal("ann")
    alone = run("new", "bob", "--out", str(tmp_path / "bob.key"))
    [entry] = alone.stdout.splitlines()
    assert read_keys(entry, None).find(f"Bearer {(tmp_path / 'bob.key').read_text().strip()}") == Principal("bob")


def test_file_of_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    keys, own = tmp_path / "keys", tmp_path / "ann.key"
    own.write_text("another")
    (tmp_path / "link").symlink_to(own)
    for place, says in (
        (own, f"Error: {own} exists already.\n"),
        (tmp_path / "link", f"Error: {tmp_path / 'link'} exists already.\n"),
        (tmp_path / "no" / "key", f"Error: {tmp_path / 'no' / 'key'} cannot be written: FileNotFoundError\n"),
    ):
        done = run("new", "ann", "--add", str(keys), "--out", str(place))
        assert (done.exit_code, done.output) == (1, says)
    assert not keys.exists() and own.read_text() == "another"
    keys.write_text("ann=one\n")
    assert run("new", "ann", "--add", str(keys), "--out", str(tmp_path / "new")).exit_code == 1
    assert not (tmp_path / "new").exists()
    same = run("new", "bob", "--add", str(keys), "--out", str(tmp_path / "." / "keys"))
    assert same.exit_code == 2 and "name the same file" in same.stderr and keys.read_text() == "ann=one\n"


def test_link_to_the_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "keys")
    assert run("new", "ann", "--add", str(tmp_path / "link")).exit_code == 0
    assert (tmp_path / "link").is_symlink() and read_keys(None, tmp_path / "keys")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"ann=one\n", "has a key for ann already"),
        (b"bob=sha256:s3cret\n", "is no file of keys: API key 1: after sha256: there must be 64 hex digits"),
        (b"\xff", "cannot be read or written: UnicodeDecodeError"),
    ],
)
def test_file_that_is_left_as_it_is(data: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(data)
    done = run("new", "ann", "--add", str(file))
    assert done.exit_code == 1 and done.stderr == f"Error: {file} {done.stderr.partition(f'{file} ')[2]}"
    assert says in done.stderr and "s3cret" not in done.output and done.stdout == ""
    assert file.read_bytes() == data


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    done = run("new", "ann", "--add", str(tmp_path / "none" / "keys"))
    assert done.exit_code == 1 and "cannot be read or written: FileNotFoundError" in done.stderr and not done.stdout


def test_list_shows_names_and_models_alone() -> None:
    done = run("list", keys=f"ann=s3cret, robert=sha256:{'0' * 64} demo-* echo")
    assert (done.exit_code, done.output) == (0, "ann     *\nrobert  demo-* echo\n")
    none = run("list")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "There are no keys.\n")


@pytest.mark.parametrize(
    ("typed", "says"), [("s3cret\n", "ann  *\n"), ("schlüssel", "bob  demo-*\n"), ("wrong\n", None), ("", None)]
)
def test_check_says_whose_a_key_is(typed: str, says: str | None) -> None:
    done = run("check", keys="ann=s3cret, bob=schlüssel demo-*", typed=typed)
    if says is None:
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", "Error: The key is nobody's.\n")
    else:
        assert (done.exit_code, done.output) == (0, says)


def test_key_is_asked_for_at_a_terminal_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("flaskcompat.commands.keys.sys", terminal)
    done = run("check", keys="ann=s3cret", typed="s3cret\n")
    assert (done.exit_code, done.stdout) == (0, "ann  *\n") and "Key: " in done.stderr and "s3cret" not in done.stderr


def test_keys_that_cannot_be_read_are_told_in_one_sentence(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASK")}
    done = subprocess.run(
        [sys.executable, "-m", "flaskcompat", "flaskcompat", "keys", "list"],
        env=clean | {"FLASKCOMPAT_API_KEYS": "ann=sha256:s3cret"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=6 * TIMEOUT,
    )
    assert done.returncode == 1 and "s3cret" not in done.stderr
    assert done.stderr == "Error: API key 1: after sha256: there must be 64 hex digits\n"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_mark_and_line_ends_of_the_file_stay(mark: bytes, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(mark + b"ann=one\r\ncid=two")
    assert [principal.name for principal in read_keys(None, file).principals] == ["ann", "cid"]
    assert run("new", "bob", "--add", str(file)).exit_code == 0
    lines = file.read_bytes().split(b"\r\n")
    assert lines[:2] == [mark + b"ann=one", b"cid=two"] and lines[2].startswith(b"bob=sha256:") and lines[3:] == [b""]
    assert run("new", "ann", "--add", str(file)).exit_code == 1


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (str(tmp_path / "pipe"), os.devnull):
        done = run("new", "ann", "--add", place)
        assert (done.exit_code, done.stdout) == (1, "") and done.stderr == f"Error: {place} is no regular file.\n"
    assert [*tmp_path.iterdir()] == [tmp_path / "pipe"]


def test_owner_stays_or_the_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("ann=one\n")
    own, asked = file.stat(), []
    monkeypatch.setattr("flaskcompat.commands.writing.Path.stat", _with_another_owner(file))
    monkeypatch.setattr("os.chown", lambda path, *ids: asked.append((path.read_text().count("\n"), ids)))
    assert run("new", "bob", "--add", str(file)).exit_code == 0
    assert asked == [(2, (own.st_uid + 1, own.st_gid + 2))]

    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.chown", refuse)
    before = file.read_bytes()
    done = run("new", "cid", "--add", str(file))
    assert done.exit_code == 1 and "cannot be read or written: PermissionError" in done.stderr and not done.stdout
    assert file.read_bytes() == before and [*tmp_path.iterdir()] == [file]


def _with_another_owner(file: Path) -> Callable[..., os.stat_result]:
    stat = Path.stat

    def told(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        fields = list(found)
        if path == file:
            fields[4:6] = found.st_uid + 1, found.st_gid + 2
        return os.stat_result(fields)

    return told


def test_keys_that_are_added_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    together = Barrier(2)

    def add(name: str) -> None:
        together.wait(TIMEOUT)
        for number in range(40):
            _add(tmp_path / "keys", f"{name}{number}", f"{name}{number}=sk-{name}{number}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, ["a", "b"]))
    assert len(read_keys(None, tmp_path / "keys").principals) == 80
