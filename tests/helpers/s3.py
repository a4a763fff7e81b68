"""An object store that speaks as much of S3 as obstore needs, on loopback; it can be told to fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Bucket:
    """What is stored, what was asked, and how many requests of a kind still fail."""

    address: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    """Method to a number of requests that are answered with 503, without effect."""
    lose: int = 0
    """So many writes take effect, and are answered with 503 all the same."""

    def fails(self, method: str) -> bool:
        self.asked.append(method)
        self.refuse[method] = self.refuse.get(method, 0) - 1
        return self.refuse[method] >= 0


@contextmanager
def bucket() -> Iterator[Bucket]:
    made, lock = Bucket(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", size: int | None = None, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body) if size is None else size))
            self.end_headers()
            self.wfile.write(body)

        @property
        def key(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                if made.fails("PUT"):
                    return self.answer(503)
                if self.key in made.objects and self.headers["If-None-Match"] == "*":
                    return self.answer(412)
                made.objects[self.key] = data
                if made.lose > 0:
                    made.lose -= 1
                    return self.answer(503)
            return self.answer(200, ETag=tag(data))

        def do_GET(self) -> None:
            if made.fails("GET"):
                return self.answer(503)
            asked = parse_qs(urlsplit(self.path).query)
            if "list-type" in asked:
                return self.answer(200, listing(made, asked.get("prefix", [""])[0], asked.get("delimiter")))
            data = made.objects.get(self.key)
            if data is None:
                return self.answer(404)
            return self.answer(200, data, ETag=tag(data), Last_Modified="Tue, 01 Jan 2030 00:00:00 GMT")

        def do_HEAD(self) -> None:
            if made.fails("HEAD"):
                return self.answer(503)
            data = made.objects.get(self.key)
            if data is None:
                return self.answer(404)
            moment = "Tue, 01 Jan 2030 00:00:00 GMT"
            return self.answer(200, size=len(data), ETag=tag(data), Last_Modified=moment)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        made.address = f"http://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield made
        listening.shutdown()


def tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def listing(made: Bucket, prefix: str, delimiter: list[str] | None) -> bytes:
    keys = sorted(key for key in made.objects if key.startswith(prefix))
    folders: set[str] = set()
    if delimiter:
        deeper = [key for key in keys if "/" in key[len(prefix) :]]
        folders = {prefix + key[len(prefix) :].split("/")[0] + "/" for key in deeper}
        keys = [key for key in keys if key not in deeper]
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(made.objects[key])}</Size><ETag>{tag(made.objects[key])}</ETag>"
        "<LastModified>2030-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    common = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
    head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><IsTruncated>false</IsTruncated>'
    return f"{head}{contents}{common}</ListBucketResult>".encode()
