"""Headless Chromium, driven through chromedriver by the few commands of WebDriver that a chat page needs."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from .support import eventually

#: What is needed and not there. On Debian both come with ``apt-get install chromium chromium-driver``.
MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
#: Seconds in which something must have come about, on a machine that is busy with more.
PATIENCE = 60.0
#: Keys, as WebDriver writes them.
ENTER, ESCAPE, SHIFT, TAB = "\ue007", "\ue00c", "\ue008", "\ue004"

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, as WebDriver fixes it
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
)


class Browser:
    """One window."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._http = httpx.Client(base_url=driver, timeout=PATIENCE)
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        kept = {"goog:loggingPrefs": {"browser": "ALL"}}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, **kept}}
        self._session = "session"
        session = self._command("POST", "", capabilities=wanted)["sessionId"]
        self._session = f"session/{session}"

    def open(self, url: str) -> None:
        self._command("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._command("POST", "/execute/sync", script=script, args=arguments)

    @property
    def text(self) -> str:
        """All that can be read in the page."""
        return str(self.run("return document.body.innerText"))

    def shows(self, text: str, timeout: float = PATIENCE) -> bool:
        """Whether *text* can be read in the page, soon."""
        return eventually(lambda: text in self.text, timeout)

    def click(self, selector: str) -> None:
        self._command("POST", f"/element/{self._find(selector)}/click")

    def press(self, text: str) -> None:
        """Click the button whose text begins with *text*."""
        find = "[...document.querySelectorAll('button')].find((one) => one.innerText.trim().startsWith(arguments[0]))"
        assert eventually(lambda: self.run(f"return !!{find}", text), PATIENCE), f"no button {text}: {self.text}"
        self.run(f"{find}.click()", text)

    def type(self, selector: str, keys: str) -> None:
        """Type into an element; into one for a file, the path of the file."""
        self._command("POST", f"/element/{self._find(selector)}/value", text=keys)

    def keys(self, keys: str) -> None:
        """Press *keys*, one after the other, wherever the focus is."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._command("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def tell_chromium(self, command: str, **parameters: Any) -> None:
        """A command of its DevTools, such as one that makes it a telephone."""
        self._command("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def complaints(self) -> list[str]:
        """What has been written to the console since the last time: errors, warnings, and what a policy forbids."""
        return [entry["message"] for entry in self._command("POST", "/se/log", type="browser")]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._command("GET", "/screenshot")))

    def close(self) -> None:
        self._command("DELETE", "")
        self._http.close()

    def _find(self, selector: str) -> str:
        """The first element of a CSS *selector*, once there is one."""
        found: list[dict[str, str]] = []

        def look() -> bool:
            found[:] = self._command("POST", "/elements", using="css selector", value=selector)
            return bool(found)

        assert eventually(look, PATIENCE), f"the page has no {selector}: {self.text}"
        return found[0][_ELEMENT]

    def _command(self, method: str, path: str, **body: Any) -> Any:
        answer = self._http.request(method, f"/{self._session}{path}", json=body if method == "POST" else None)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser that keeps what it has in *folder*."""
    port = free_port()
    with (folder / "chromedriver.log").open("wb") as log:
        driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=subprocess.STDOUT)
    try:
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/status")), "chromedriver does not start"
        browser = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(PATIENCE)
