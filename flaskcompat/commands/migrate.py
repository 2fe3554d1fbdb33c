"""``flask flaskcompat migrate``, and ``flaskcompat migrate``, which loads no application."""

from __future__ import annotations

import difflib
import io
import os
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import click

from flaskcompat.commands.writing import write_whole
from flaskcompat.migration import FILES, Migrated, migrate_texts

_SKIPPED = {".git", ".venv", "__pycache__", "node_modules"}
_ENVIRONMENT_MARK = "pyvenv.cfg"


@click.command("migrate", short_help="Rewrite a folder of Hayhooks wrappers to import flaskcompat by name.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if anything would change or is left to do.")
def migrate_command(folder: Path, check: bool) -> None:
    """Rewrite the Hayhooks wrappers in DIR so that they import flaskcompat by name.

    They then run with FLASKCOMPAT_HAYHOOKS_ALIAS=off. Only what is certain is changed: imports and what is read by
    them, FastAPI's HTTPException, spellings that Haystack 3 has no more, settings in .env files, the requirement in
    requirements.txt. Every change is shown, and where something is left to do by hand. A second run changes nothing.
    """
    files, failed = _read(folder)
    links = dict.fromkeys(_links(folder), "a link, which is passed over: run this for what it leads to")
    done = migrate_texts({path: file.text for path, file in files.items()})
    changed = 0
    for path, migrated in done.items():
        if migrated.text == files[path].text:
            continue
        _show(path, files[path].text, migrated.text)
        if check or _write(path, migrated.text, files[path].encoding, failed):
            changed += 1
    if not check:  # lines are told as they are in the files now
        done = migrate_texts({path: migrated.text for path, migrated in done.items()})
    left = _show_left(done, links | failed)
    did = "would change" if check else "changed"
    click.echo(f"{_count(changed, 'file')} {did}, {_count(left, 'place')} left to do by hand")
    if failed or (check and (changed or left)):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _File:
    text: str
    encoding: str


def _read(folder: Path) -> tuple[dict[Path, _File], dict[Path, str]]:
    """The files that are looked at, and why some could not be."""
    files, failed = {}, dict[Path, str]()
    for path in _paths(folder, failed):
        try:
            files[path] = _decoded(path)
        except (OSError, SyntaxError, UnicodeError) as error:
            failed[path] = _cannot_be("read", error)
    return files, failed


def _paths(folder: Path, failed: dict[Path, str]) -> Iterator[Path]:
    """The files that are looked at; *failed* tells of folders that cannot be."""

    def fail(error: OSError) -> None:
        failed[Path(error.filename)] = _cannot_be("read", error)

    for place, _, names in _walk(folder, fail):
        yield from (path for name in names if (path := Path(place, name)).is_file() and not path.is_symlink())


def _links(folder: Path) -> Iterator[Path]:
    """The links to what would be looked at, if it is not in *folder* anyhow."""
    own = folder.resolve()
    for place, folders, names in _walk(folder):
        for path in (Path(place, name) for name in [*folders, *names]):
            if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(own):
                yield path


def _walk(folder: Path, fail: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not Path(place, name, _ENVIRONMENT_MARK).exists()
        )
        yield place, folders, sorted(name for name in names if any(fnmatch(name, pattern) for pattern in FILES))


def _cannot_be(done: str, error: Exception) -> str:
    return f"left as it is: it cannot be {done} ({type(error).__name__})"


def _decoded(path: Path) -> _File:
    """A file's text, which gives the same bytes again when it is encoded."""
    data = path.read_bytes()
    encoding = "utf-8"
    if path.suffix == ".py":
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding)
    if text.encode(encoding) != data:
        raise UnicodeError
    return _File(text, encoding)


def _write(path: Path, text: str, encoding: str, failed: dict[Path, str]) -> bool:
    """Whether *path* has this text now; if not, *failed* tells why."""
    try:
        if not path.stat().st_mode & 0o222:  # for nobody, which a replacement would not mind
            raise PermissionError
        write_whole(path, text.encode(encoding))
    except OSError as error:
        failed[path] = _cannot_be("written", error)
        return False
    return True


def _show(path: Path, before: str, after: str) -> None:
    name = click.format_filename(path)
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, n=1, lineterm=""):
        click.echo(line)


def _show_left(done: dict[Path, Migrated], failed: dict[Path, str]) -> int:
    lines = [
        f"{click.format_filename(path)}:{note.line}: {note.text}"
        for path, migrated in done.items()
        for note in migrated.notes
    ]
    lines += [f"{click.format_filename(path)}: {why}" for path, why in failed.items()]
    for line in lines:
        click.echo(line)
    return len(lines)


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
