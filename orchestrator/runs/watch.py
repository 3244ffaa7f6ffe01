"""`paretoray watch`: pages of runs on this machine's loopback address, for a browser on the same machine."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from analysis.page.render import render
from orchestrator.errors import InputError
from orchestrator.runs.directory import EXPERIMENT
from orchestrator.runs.live import LiveRun, runs_in


class Watch:
    """Server of the page of a run, or of all runs in a folder. It only reads, and only listens on loopback.

    Args:
        directory: A run directory, or a folder of them.
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        InputError: For an address other than loopback, a port that is taken, and a directory that does not exist.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        if not directory.is_dir():
            raise InputError(f"there is no directory {directory}; write that of a run, or of several, as runs")
        if not _is_loopback(host):
            raise InputError(
                f"--host {host}: pages of runs are served on loopback alone, as 127.0.0.1, since whoever reaches the port can "
                "read them; from elsewhere, forward the port with: ssh -L PORT:127.0.0.1:PORT MACHINE"
            )
        self.directory, self._runs = directory, dict[Path, LiveRun]()
        self._single = (directory / EXPERIMENT).is_file()
        self._one_at_a_time = threading.Lock()  # figures are made in a style that all threads share
        try:
            self.server = ThreadingHTTPServer((host, port), _handler(self.answer))
        except OSError as error:
            raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port, or 0") from error
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{self.server.server_address[0]!s}:{self.server.server_port}/"

    def serve(self) -> None:
        """Serve until the process is interrupted."""
        try:
            self.server.serve_forever()
        finally:
            self.server.server_close()

    def answer(self, path: str) -> tuple[str, str] | None:
        """Return content and its type for the path of a request; None where there is nothing."""
        folder, _, name = path.rpartition("/")
        with self._one_at_a_time:
            if path == "/" and not self._single:
                return self._listed(), "text/html"
            run = self._run(folder)
            if run is None or name not in ("", "status.json"):
                return None
            return (json.dumps(run.status()), "application/json") if name else (run.page(), "text/html")

    def _run(self, folder: str) -> LiveRun | None:
        """Find the run whose page is in a folder: at the top where there is one alone, otherwise below `/run/`."""
        if self._single:
            directory = self.directory if not folder else None
        else:
            directory = runs_in(self.directory).get(folder.removeprefix("/run/")) if folder.startswith("/run/") else None
        return self._runs.setdefault(directory, LiveRun(directory)) if directory else None

    def _listed(self) -> str:
        runs = []
        for name, directory in runs_in(self.directory).items():
            status = LiveRun(directory).status()
            facts = ", ".join(f"{key} {value}" for key, value in status["facts"] if key in ("measured", "lowest error"))
            link = f"run/{quote(name)}/"
            runs.append({"name": name, "link": link, "state": status["said"], "fraction": status["fraction"], "facts": facts})
        return render("runs.html", title=f"Runs in {self.directory}", lead="", runs=runs)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _handler(answer: Callable[[str], tuple[str, str] | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page from elsewhere may have a name of its own resolve to loopback; only ours are answered.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if not _is_loopback(host):
                self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
                return
            found = answer(unquote(urlsplit(self.path).path))
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            content = found[0].encode()
            with suppress(ConnectionError):  # a page that was closed meanwhile
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", f"{found[1]}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing of requests."""

    return Handler
