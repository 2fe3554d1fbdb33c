from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from openai.types import FileObject

from flaskcompat import APIError, BasePipelineWrapper
from flaskcompat.blueprints.files import label_of

from ..support import make_app, returning


class Keeper(BasePipelineWrapper):
    """Remembers what it was given."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer if answer is not None else {"id": "mine"}
        self.seen: list[Any] = []

    def run_file_upload(self, filename: str | None, content_type: str | None, content: bytes, purpose: str) -> Any:
        self.seen.append((filename, content_type, content, purpose))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def upload(app: Flask, path: str = "/v1/files", **fields: Any) -> Any:
    data = {"purpose": "user_data", "file": (io.BytesIO(b"hello"), "a.txt", "text/plain"), **fields}
    return app.test_client().post(path, data={k: v for k, v in data.items() if v is not None})


@pytest.mark.parametrize("path", ["/v1/files", "/files", "/v1/files/"])
def test_metadata_alone_without_a_keeper(path: str, caplog: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    response = upload(make_app(m=returning("x")), path, file=(io.BytesIO(b"x" * 300_000), "dir/é.txt"))
    file = response.json
    assert response.status_code == 200 and file["id"].startswith("file-")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": 300_000,
        "created_at": file["created_at"],
        "filename": "é.txt",
        "purpose": "user_data",
        "status": "processed",
    }
    FileObject.model_validate(file, strict=True)
    assert "is not kept" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_keeper_gets_the_file_and_its_answer_is_filled_in() -> None:
    keeper = Keeper({"id": "mine", "extra": {"pages": 3}, "bytes": None})
    response = upload(make_app(keeper=keeper))
    assert keeper.seen == [("a.txt", "text/plain", b"hello", "user_data")]
    file = response.json
    assert (file["id"], file["extra"], file["bytes"], file["filename"]) == ("mine", {"pages": 3}, 5, "a.txt")
    FileObject.model_validate(file, strict=True)


def test_keeper_that_asks_for_headers() -> None:
    class Asking(BasePipelineWrapper):
        def run_file_upload(self, filename: Any, content_type: Any, content: Any, purpose: Any, headers: Any) -> Any:
            return {"id": headers["x-who"]}

    data = {"purpose": "x", "file": (io.BytesIO(b""), "a")}
    response = make_app(m=Asking()).test_client().post("/v1/files", data=data, headers={"X-Who": "ann"})
    assert response.json["id"] == "ann"


@pytest.mark.parametrize("missing", ["file", "purpose"])
def test_missing_field(missing: str) -> None:
    fields: dict[str, Any] = {"purpose": "x", "file": (io.BytesIO(b"x"), "a")}
    del fields[missing]
    response = make_app().test_client().post("/v1/files", data=fields, content_type="multipart/form-data")
    assert response.status_code == 400
    assert (response.json["error"]["code"], response.json["error"]["param"]) == ("missing_required_parameter", missing)


@pytest.mark.parametrize(
    ("content_type", "data", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"no boundary", 400),
    ],
)
def test_body_that_is_no_upload(content_type: str, data: bytes, status: int) -> None:
    response = make_app().test_client().post("/v1/files", data=data, content_type=content_type)
    assert response.status_code == status and set(response.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/files", "/files"])
def test_limit_is_the_upload_s_own(path: str) -> None:
    app = make_app()
    app.config["FLASKCOMPAT_MAX_BODY_BYTES"] = 10
    assert upload(app, path).status_code == 200
    app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"] = 100
    response = upload(app, path)
    assert (response.status_code, response.json["error"]["code"]) == (413, "request_too_large")


def test_too_many_parts() -> None:
    many = {f"field{i}": "x" for i in range(1100)}
    response = upload(make_app(), **many)
    assert (response.status_code, response.json["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "answer", [ValueError("s3cret"), [], "file-1", {"bytes": "s3cret"}, {"id": "x", "extra": {1, 2}}]
)
def test_keeper_that_fails(answer: Any, caplog: Any) -> None:
    response = upload(make_app(keeper=Keeper(answer)))
    assert (response.status_code, response.json["error"]["code"]) == (500, "pipeline_error")
    assert "s3cret" not in response.text and "keeper.run_file_upload" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
def test_asynchronous_keeper(fails: bool) -> None:
    class Asynchronous(BasePipelineWrapper):
        async def run_file_upload(self, filename: Any, content_type: Any, content: Any, purpose: Any) -> Any:  # type: ignore[override]
            if fails:
                raise ValueError("s3cret")
            return {"id": content.decode()}

    response = upload(make_app(keeper=Asynchronous()))
    assert response.status_code == 500 if fails else response.json["id"] == "hello"
    assert "s3cret" not in response.text


def test_keeper_that_refuses() -> None:
    response = upload(make_app(keeper=Keeper(APIError("No.", status=403))))
    assert (response.status_code, response.json["error"]["message"]) == (403, "No.")


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("a b.txt", "a b.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\x.txt", "x.txt"),
        ("日本\x00\r\n.txt", "日本.txt"),
        ("x" * 300, "x" * 255),
        ("..", None),
        ("dir/", None),
        ("", None),
        (None, None),
    ],
)
def test_file_name_is_a_label(given: str | None, label: str | None) -> None:
    assert label_of(given) == label
