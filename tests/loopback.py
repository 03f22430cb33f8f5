"""A server on this machine for tests of downloads, and what these leave."""

import http.server
import threading
from pathlib import Path
from typing import Any, Self


class Server:
    """Serves files by name, whatever stands before it in the address, until the end of its `with` block or `stop`.

    `limits` cut off one answer each, after that many bytes; without `ranges`, every answer starts at the file's
    beginning; a `status` other than 200 is all that is answered.
    """

    def __init__(self, content_type: str) -> None:
        self.files: dict[str, bytes] = {}
        self.content_type = content_type
        self.headers: dict[str, str] = {}  # of every answer, beside the usual ones
        self.status = 200
        self.ranges = True
        self.limits: list[int] = []
        self.asked: list[tuple[str, str | None]] = []  # name and header Range of each GET
        self.paths: list[str] = []  # whole path of each GET
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def do_HEAD(self) -> None:
                server._answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on; a second time changes nothing."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2].partition("?")[0]
        asked = request.headers.get("Range")
        if request.command == "GET":
            self.asked.append((name, asked))
            self.paths.append(request.path)
        if name not in self.files:
            return request.send_error(404)
        content = self.files[name]
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if first and first >= len(content):
            return request.send_error(416)
        if self.status != 200:
            return request.send_error(self.status)
        body = content[first:]
        request.send_response(206 if first else 200)
        request.send_header("Content-Type", self.content_type)
        request.send_header("Content-Length", str(len(body)))
        for header, value in self.headers.items():
            request.send_header(header, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[: self.limits.pop(0)] if self.limits else body)


def left(folder: Path) -> list[str]:
    """Names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
