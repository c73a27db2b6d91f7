"""A Hub on the loopback interface, which speaks to the real huggingface_hub client."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubServer(ThreadingHTTPServer):
    """Serves `files`, by "owner/name/filename", as repositories and as plain URLs under /plain/.

    `cut` holds how many bytes of each following answer are sent before the line drops. `token` may
    create repositories and commit to them, all files in the commit itself: the Hub wants large ones
    by its own storage, Xet.
    """

    token = "hf_write"

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut: list[int] = []
        self.repositories: dict[str, dict[str, object]] = {}
        self.commits: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._json({"error": "Invalid credentials"}, status=401)
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"me/{asked['name']}"
            known = name in self.server.repositories
            self.server.repositories.setdefault(name, asked)
            return self._json({"url": f"{self.server.url}/{name}"}, status=409 if known else 200)
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if re.fullmatch(r"/api/models/.+/preupload/main", self.path):
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            files = json.loads(content)["files"]
            return self._json({"files": [{"path": file["path"], **mode} for file in files]})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            return self._commit(match[1], [json.loads(line) for line in content.splitlines()])
        return self._json({"error": self.path}, status=404)

    def _commit(self, repo: str, lines: list[dict[str, dict[str, str]]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            else:
                content = base64.b64decode(value["content"])
                self.server.files[f"{repo}/{value['path']}"] = content
        oid = hashlib.sha1(repo.encode()).hexdigest()
        url = f"{self.server.url}/{repo}/commit/{oid}"
        self._json({"commitOid": oid, "commitUrl": url, "success": True, "hookOutput": ""})

    def _json(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, body: bool) -> None:
        range_header = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, range_header))
        path = self.path.lstrip("/").removeprefix("plain/")
        path = re.sub("/resolve/(main|[0-9a-f]{40})/", "/", path)
        repo = "/".join(path.split("/")[:2])
        data = self.server.files.get(path)
        # The client takes a cached file of the same commit as it is.
        self.commit = hashlib.sha1(data or b"").hexdigest()
        if data is None:
            known = any(name.startswith(f"{repo}/") for name in self.server.files)
            return self._missing("EntryNotFound" if known else "RepoNotFound")
        start = int(range_header.removeprefix("bytes=").partition("-")[0]) if range_header else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body and self.server.cut:
            self.wfile.write(data[start : start + self.server.cut.pop(0)])
            self.close_connection = True
        elif body:
            self.wfile.write(data[start:])
        return None

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
