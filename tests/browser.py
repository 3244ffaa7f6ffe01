"""A headless Chromium for tests of pages, spoken to in the DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str:
    """Return the browser's path; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser to open the page in: none of {', '.join(NAMES)} is installed")
    return found


class Browser:
    """A window of a headless Chromium; `problems` has the errors of its console and its uncaught exceptions."""

    def __init__(self, folder: Path) -> None:
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        # The protocol reads from 3 and writes to 4, which may be ours; copies above them can be moved there one by one.
        theirs = [fcntl.fcntl(number, fcntl.F_DUPFD, 10) for number in (from_us, to_us)]
        moved = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        options = ["--headless", "--no-sandbox", "--remote-debugging-pipe", "--hide-scrollbars", "--enable-unsafe-swiftshader"]
        command = ["bash", "-c", moved, executable(), *options, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number in (from_us, to_us, *theirs):
            os.close(number)
        self._to, self._from = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._ids, self._rest, self.problems = itertools.count(1), b"", list[str]()
        self._clicked = 0.0
        self.session: str | None = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": self.session} if self.session else {})
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])
            self._note(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, told: dict[str, Any]) -> None:
        said = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(said["exceptionDetails"].get("exception", said["exceptionDetails"])))
        elif told.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.problems.append(said["entry"]["text"])
        elif told.get("method") == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.problems.append(str(said["args"]))

    def open(self, address: str, width: int = 1200, height: int = 1500, scheme: str = "light") -> None:
        """Open a page in a window of that size, and wait until its plots are drawn."""
        self.resize(width, height, scheme)
        self.call("Page.navigate", url=address)
        self.wait("document.documentElement.dataset.ready === 'true'")

    def resize(self, width: int = 1200, height: int = 1500, scheme: str = "light") -> None:
        """Change the size of the window, and what the system prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def wait(self, expression: str) -> None:
        """Wait until an expression is true, for twenty seconds at most."""
        code = (
            "new Promise((done, fail) => { const end = Date.now() + 20000; (function look() { let is; try { is = "
            f"{expression}; }} catch {{ is = false; }} if (is) done(true); else if (Date.now() > end) fail(Error('waited in "
            "vain')); else setTimeout(look, 20); })(); })"
        )
        self.evaluate(code)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or what a promise resolves to."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Click at a place in the window, so long after the last click that the two are no double click."""
        time.sleep(max(0.0, self._clicked + 0.4 - time.monotonic()))
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self._clicked = time.monotonic()

    def press(self, key: str) -> None:
        """Press a key, as ArrowDown."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save the page, or what is seen of it, as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()
        self._to.close()
        self._from.close()
