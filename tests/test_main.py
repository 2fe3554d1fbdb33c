"""What the console command ``flaskcompat`` has without an application."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from flaskcompat import __main__ as console
from flaskcompat.commands import app_loader

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in a folder whose models must not be loaded; gives its exit status and what it prints."""

    def fail() -> Any:
        raise AssertionError("the application is loaded")

    monkeypatch.setattr(app_loader, "create_app", fail)
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["flaskcompat", *arguments])
        with pytest.raises(SystemExit) as ended:
            console.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_first_key_of_the_file_that_the_settings_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASKCOMPAT_API_KEYS_FILE", "keys")
    assert run("keys", "list") == (1, "", "Error: FLASKCOMPAT_API_KEYS_FILE cannot be read: FileNotFoundError\n")
    status, key, told = run("keys", "new", "ann", "echo", "--add", "keys")
    assert (status, told) == (0, "") and key.startswith("sk-")
    assert run("keys", "list") == (0, "ann  echo\n", "")
    monkeypatch.setattr("sys.stdin", StringIO(key))
    assert run("keys", "check") == (0, "ann  echo\n", "")


def test_folder_is_migrated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.py").write_text("from hayhooks import log\n")
    status, shown, _ = run("migrate", "m", "--check")
    assert status == 1 and shown.endswith("1 file would change, 0 places left to do by hand\n")
