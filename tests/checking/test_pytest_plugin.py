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
def test_folder_of_one_model(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_inprocess("-p", PLUGIN, "--flaskcompat-check", "wrappers/good")
    done.assert_outcomes(passed=3, skipped=3)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("folder", ["other", "wrappers/empty"])
def test_folder_without_models_is_misuse(pytester: pytest.Pytester, folder: str) -> None:
    (pytester.path / "wrappers" / "empty").mkdir()
    done = pytester.runpytest_inprocess("-p", PLUGIN, "--flaskcompat-check", folder)
    assert done.ret == pytest.ExitCode.USAGE_ERROR and "does not exist, or has no models" in done.stderr.str()


@pytest.mark.usefixtures("project")
def test_setting_that_cannot_be_read_is_misuse(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASKCOMPAT_KEEP_ALIVE", "often")
    done = pytester.runpytest_inprocess("-p", PLUGIN, "--flaskcompat-check", "wrappers")
    assert done.ret == pytest.ExitCode.USAGE_ERROR and "FLASKCOMPAT_KEEP_ALIVE" in done.stderr.str()


@pytest.mark.usefixtures("project")
def test_what_failed_last_is_found_again(pytester: pytest.Pytester) -> None:
    given = ("-p", PLUGIN, "--flaskcompat-check", "wrappers", "--lf")
    pytester.runpytest_inprocess(*given).assert_outcomes(failed=1, passed=5, skipped=6)
    pytester.runpytest_inprocess(*given).assert_outcomes(failed=1)


def test_ids_tell_folders_apart_and_can_be_given_back(pytester: pytest.Pytester, project: Path) -> None:
    write(project / "more" / "wrappers", "good", method("return 'x'"))
    given = ("-p", PLUGIN, "--flaskcompat-check", "wrappers", "--flaskcompat-check", "more/wrappers")
    done = pytester.runpytest_inprocess(*given, "-v", "-k", "good")
    ids = [f"{folder}/good/pipeline_wrapper.py::good[chat stream]" for folder in ("wrappers", "more/wrappers")]
    assert all(f"{id} PASSED" in done.stdout.str() for id in ids)
    pytester.runpytest_inprocess(*given, *ids).assert_outcomes(passed=2)


def test_ini_option_is_not_for_those_who_name_a_test(pytester: pytest.Pytester, project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nflaskcompat_check = wrappers\n")
    (project / "test_own.py").write_text("def test_own():\n    pass\n")
    done = pytester.runpytest_inprocess("-p", PLUGIN, "test_own.py::test_own")
    done.assert_outcomes(passed=1)


@pytest.mark.usefixtures("project")
def test_nothing_is_checked_unless_told(pytester: pytest.Pytester) -> None:
    assert pytester.runpytest_inprocess("-p", PLUGIN).ret == pytest.ExitCode.NO_TESTS_COLLECTED
