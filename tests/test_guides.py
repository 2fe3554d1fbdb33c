"""The guides: their programs run as pasted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDES = Path(__file__).parent.parent / "examples" / "guides"


def test_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask_login")
    pytest.importorskip("flask_sqlalchemy")
    pytest.importorskip("flask_wtf")
    text = (GUIDES / "embedding.md").read_text(encoding="utf-8")
    program = "\n\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop_of_the_guide.py").write_text(program, encoding="utf-8")
    import shop_of_the_guide  # type: ignore[import-not-found]

    shop_of_the_guide.test_clerk()
    client = shop_of_the_guide.app.test_client()
    assert client.get("/").text == "<h1>Toy cars</h1>"
    shop_of_the_guide.app.config["MAINTENANCE"] = True
    refused = client.get("/ai/v1/models")
    assert (refused.status_code, refused.json["error"]["message"]) == (503, "The shop is closed until noon.")
    with shop_of_the_guide.app.app_context():
        shop_of_the_guide.db.engine.dispose()
