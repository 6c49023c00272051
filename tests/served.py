"""A web server of this machine that can go wrong as real ones do."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CONTENT = bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` bytes a connection where it is given; remembers what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {"/a.bin": CONTENT}, []
        self.cut, self.ranges, self.etag, self.codes = None, True, '"1"', []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.codes:
            return self.send_error(server.codes.pop(0))
        if self.path not in server.files:
            return self.send_error(404)
        content, begin = server.files[self.path], 0
        same = self.headers.get("If-Range", server.etag) == server.etag
        if server.ranges and same and (asked := self.headers.get("Range")):
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin:][: server.cut])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture(name="server")
def a_server():
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()
