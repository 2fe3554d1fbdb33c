from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Blueprint, Flask
from flask.cli import ScriptInfo

from flaskcompat import BasePipelineWrapper, FlaskCompat, cli, server
from flaskcompat.__main__ import main
from flaskcompat.cli import serve_command, start_screen

from .support import make_app, returning


class ResponseOnly(BasePipelineWrapper):
    def run_response(self, model: str, input_items: Any, body: Any) -> str:
        return "x"


class UploadOnly(BasePipelineWrapper):
    def run_file_upload(self, filename: Any, content_type: Any, content: Any, purpose: Any) -> Any:
        return {}


def test_start_screen_lists_models_failures_and_a_line_to_paste() -> None:
    app = make_app(chat=returning("x"))
    app.extensions["flaskcompat"].registry.failed["broken"] = "ValueError: no"
    assert start_screen(app, "127.0.0.1", 1416).splitlines() == [
        f"flaskcompat {cli.__version__} at http://127.0.0.1:1416/v1",
        "",
        "  chat    chat, responses",
        "  broken  FAILED: ValueError: no",
        "",
        "Try it:",
        "  curl http://127.0.0.1:1416/v1/chat/completions -H 'Content-Type: application/json' -d "
        '\'{"model": "chat", "messages": [{"role": "user", "content": "What can you do?"}]}\'',
    ]


def test_start_screen_of_other_kinds_of_models(tmp_path: Path) -> None:
    files = make_app(a=UploadOnly())
    assert "Try it" not in start_screen(files, "::1", 80) and "http://[::1]:80/v1" in start_screen(files, "::1", 80)
    both = make_app(a=UploadOnly(), b=ResponseOnly())
    assert "/v1/responses" in start_screen(both, "h", 80) and '"input"' in start_screen(both, "h", 80)
    assert "no models: the app has added none" in start_screen(make_app(), "h", 80)
    app = Flask("host")
    FlaskCompat(app, pipelines=tmp_path)
    assert "no models: the folder has no <name>/pipeline_wrapper.py" in start_screen(app, "h", 80)


def test_start_screen_shows_where_the_api_is() -> None:
    app = Flask("host")
    app.config.update(FLASKCOMPAT_API_KEYS="sesame", FLASKCOMPAT_PAGE=True)
    FlaskCompat(app, url_prefix="/ai").registry.add("m", returning("x"))
    screen = start_screen(app, "h", 80)
    assert screen.startswith(f"flaskcompat {cli.__version__} at http://h:80/ai/v1\n")
    assert "  curl http://h:80/ai/v1/chat/completions -H 'Authorization: Bearer KEY' -H " in screen
    assert screen.endswith("\n  or in a browser: http://h:80/ai/")


def test_start_screen_of_several_apis() -> None:
    app = Flask("host")
    FlaskCompat(app, name="one", url_prefix="/one")
    FlaskCompat(app, name="two", url_prefix="/two").registry.add("m", returning("x"))
    screen = start_screen(app, "h", 80)
    assert "at http://h:80/one/v1 and http://h:80/two/v1\n" in screen and "curl http://h:80/two/v1/chat" in screen


@pytest.mark.parametrize(
    ("prefix", "registered", "where"),
    [
        ("/outer", True, "at http://h:80/outer/ai/v1"),
        ("/<tenant>", True, "at http://h:80/<tenant>/ai/v1"),
        ("/outer", False, "without an API: its blueprint is not registered"),
    ],
)
def test_start_screen_of_an_api_below_a_blueprint(prefix: str, registered: bool, where: str) -> None:
    app, parent = Flask("host"), Blueprint("parent", __name__, url_prefix=prefix)
    FlaskCompat(app, parent=parent, url_prefix="/ai").registry.add("m", returning("x"))
    if registered:
        app.register_blueprint(parent)
    screen = start_screen(app, "h", 80)
    assert screen.startswith(f"flaskcompat {cli.__version__} {where}\n") and "  m  chat, responses" in screen
    assert ("curl" in screen) is (where == "at http://h:80/outer/ai/v1")


def test_serve_options_reach_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    app = make_app(m=returning("x"))
    monkeypatch.setattr(cli, "serve", lambda app, **options: seen.append((app, options)) or options["on_start"](99))  # type: ignore[func-returns-value]
    done = CliRunner().invoke(
        serve_command, ["--host", "0.0.0.0", "--port", "5", "--threads", "7"], obj=ScriptInfo(create_app=lambda: app)
    )
    assert done.exit_code == 0, done.output
    [(given, options)] = seen
    assert given is app and (options["host"], options["port"], options["threads"]) == ("0.0.0.0", 5, 7)
    assert "http://0.0.0.0:99/v1" in done.output


def test_serve_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cli, "serve", lambda app, **options: seen.append(options))
    done = CliRunner().invoke(serve_command, [], obj=ScriptInfo(create_app=make_app))
    assert done.exit_code == 0
    assert (seen[0]["host"], seen[0]["port"], seen[0]["threads"]) == ("127.0.0.1", 1416, 64)


@pytest.mark.parametrize("options", [["--threads", "0"], ["--port", "70000"]])
def test_serve_refuses_nonsense(options: list[str]) -> None:
    assert CliRunner().invoke(serve_command, options, obj=ScriptInfo(create_app=make_app)).exit_code == 2


def test_runner_s_settings() -> None:
    app = Flask("x")
    FlaskCompat(app)
    options = server.options(app, 64)
    assert options["threads"] == 72 and options["connection_limit"] == 2000 and options["backlog"] == 2048
    assert options["channel_request_lookahead"] == 1 and options["ident"] is None
    assert options["max_request_body_size"] > app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"]
    assert server.options(app, 1100)["connection_limit"] == 2100


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_address_that_others_reach_is_warned_about(
    host: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fake:
        port = 7

        def run(self) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            seen.append("closed")

    seen: list[Any] = []
    monkeypatch.setattr(server, "make_server", lambda app, **options: Fake())
    with pytest.raises(KeyboardInterrupt):
        server.serve(make_app(), host=host, on_start=seen.append)
    assert seen == [7, "closed"]
    assert ("anyone who reaches this address" in caplog.text) is warned


def test_warning_names_the_hooks_of_the_app(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    app.before_request(lambda: None)
    server.warn_if_open(app, "0.0.0.0")
    assert "can use the models unless a before_request hook refuses them; no API key is set" in caplog.text


def test_serve_in_a_thread_sets_no_signal_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    class Fake:
        port = 7

        def run(self) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(server, "make_server", lambda app, **options: Fake())
    errors: list[BaseException] = []

    def work() -> None:
        try:
            server.serve(make_app())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert errors == []


def test_console_command_shows_its_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["flaskcompat", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "serve  " in capsys.readouterr().out


def test_data_keeps_state_below_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = make_app(m=returning("x"))
    monkeypatch.setattr(cli, "serve", lambda *args, **kwargs: None)
    folder = tmp_path / "a" / "state"
    done = CliRunner().invoke(serve_command, ["--data", str(folder)], obj=ScriptInfo(create_app=lambda: app))
    assert done.exit_code == 0, done.output
    assert app.config["FLASKCOMPAT_DATABASE_URL"] == f"sqlite:///{folder / 'flaskcompat.db'}"
    id = app.test_client().post("/v1/responses", json={"model": "m", "input": "x"}).get_json()["id"]
    stores = app.extensions["flaskcompat"].stores
    assert stores.responses.response("", id)["id"] == id and stores.files.keeps_bytes
    assert (folder / "flaskcompat.db").exists() and folder.stat().st_mode & 0o077 == 0
    stores.close()


def test_data_is_kept_of_each_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = Flask("host")
    for name in ("one", "two"):
        FlaskCompat(app, name=name, url_prefix=f"/{name}").registry.add("m", returning("x"))
    monkeypatch.setattr(cli, "serve", lambda *args, **kwargs: None)
    done = CliRunner().invoke(serve_command, ["--data", str(tmp_path)], obj=ScriptInfo(create_app=lambda: app))
    assert done.exit_code == 0, done.output
    made = app.test_client().post("/two/v1/responses", json={"model": "m", "input": "x"}).get_json()
    assert app.test_client().get(f"/one/v1/responses/{made['id']}").status_code == 200
    assert app.extensions["two"].stores.files.keeps_bytes
    app.extensions["one"].stores.close()


def test_data_that_cannot_be_kept_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = make_app(m=returning("x"))
    options = ["--data", str(tmp_path / "file" / "x")]
    done = CliRunner().invoke(serve_command, options, obj=ScriptInfo(create_app=lambda: app))
    assert done.exit_code == 1 and done.output.startswith("Error: ")


def test_purge_says_how_much_it_was() -> None:
    app = make_app(m=returning("x"))
    app.test_client().post("/v1/responses", json={"model": "m", "input": "x"})
    app.extensions["flaskcompat"].stores.responses._retention._most = 0
    done = app.test_cli_runner().invoke(args=["flaskcompat", "purge"])
    assert (done.exit_code, done.output) == (0, "1 records deleted\n")
