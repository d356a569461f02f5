"""A stand-in for W&B's server, which keeps the rows of runs as that one does."""

import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Iterator

_HISTORY = "wandb-history.jsonl"


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.rows: dict[str, list[dict]] = {}
        self.exit_codes: list[int] = []

    def answer(self, query: str, variables: dict | None = None, **_) -> dict:
        variables = variables or {}
        name = variables.get("name")
        if "RunResumeStatus" in query:
            return {"model": self._resume(name) if name in self.rows else None}
        if "upsertBucket" in query:
            self.rows.setdefault(name, [])
            owner = {"name": "cifar_jax", "entity": {"name": "me"}}
            return {"upsertBucket": {"bucket": {"name": name, "project": owner}}}
        if "createRunFiles" in query:
            files = [{"name": n, "uploadUrl": self.url} for n in variables["files"]]
            return {"createRunFiles": {"runID": "0", "files": files}}
        return {}

    def _resume(self, name: str) -> dict:
        rows = self.rows[name]
        bucket = {
            "name": name,
            "historyLineCount": len(rows),
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            **{"eventsLineCount": 0, "logLineCount": 0, "eventsTail": "[]"},
            **{"summaryMetrics": "{}", "config": "{}", "wandbConfig": '{"t": 1}'},
        }
        return {"name": "cifar_jax", "entity": {"name": "me"}, "bucket": bucket}

    def store(self, name: str, body: dict) -> None:
        if (history := body.get("files", {}).get(_HISTORY)) is not None:
            # As W&B does: the new rows replace those at and after the offset.
            del self.rows[name][history["offset"] :]
            self.rows[name] += map(json.loads, history["content"])
        if body.get("complete"):
            self.exit_codes.append(body["exitcode"])


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_PUT(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            raw = gzip.decompress(raw)
        if self.path == "/graphql":
            body = json.loads(raw)
            self._reply({"data": self.server.answer(**body)})
        elif self.path.endswith("/file_stream"):
            self.server.store(self.path.split("/")[-2], json.loads(raw))
            self._reply({})
        else:
            self._reply({})

    def _reply(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[_Server]:
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
