"""Folders of wrappers as tests of somebody's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .folders import method, write

pytest_plugins = "pytester"

PLUGIN = "flaskcompat.contrib.pytest_plugin"


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    write(pytester.path / "wrappers", "good", method("return 'x'"))
    late = method("yield 'x'\nif body.get('stream'):\n    raise ValueError('midway')")
    write(pytester.path / "wrappers", "late", late)
    return pytester.path


@pytest.mark.usefixtures("project")
def test_each_model_and_column_is_an_item(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_inprocess("-p", PLUGIN, "--flaskcompat-check", "wrappers", "-v")
    done.assert_outcomes(failed=1, passed=5, skipped=6)
    shown = done.stdout.str()
    assert "late, chat stream:\nbreaks off: ValueError: midway (late/pipeline_wrapper.py:15)\n" in shown
    assert "Traceback" not in shown and "runtest" not in shown


def test_ini_option_and_choice_by_name_beside_own_tests(pytester: pytest.Pytester, project: Path) -> None:
    (project / "conftest.py").write_text(f"pytest_plugins = [{PLUGIN!r}]\n")
    (project / "pytest.ini").write_text("[pytest]\nflaskcompat_check = wrappers\n")
    (project / "test_own.py").write_text("def test_own():\n    pass\n")
    done = pytester.runpytest_inprocess("-k", "good or own")
    done.assert_outcomes(passed=4, skipped=3, deselected=6)


@pytest.mark.usefixtures("project")
def test_folder_that_does_not_exist_is_misuse(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_inprocess("-p", PLUGIN, "--flaskcompat-check", "other")
    assert done.ret == pytest.ExitCode.USAGE_ERROR and "does not exist" in done.stderr.str()


@pytest.mark.usefixtures("project")
def test_nothing_is_checked_unless_told(pytester: pytest.Pytester) -> None:
    assert pytester.runpytest_inprocess("-p", PLUGIN).ret == pytest.ExitCode.NO_TESTS_COLLECTED
