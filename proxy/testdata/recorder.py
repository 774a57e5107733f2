"""A strict HTTP/1.1 server for the desync hunt: it answers with the target it saw, and writes it to a file.

Usage: recorder.py FILE. It prints its port, and ends with its standard input.
"""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

record = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Malformed(Exception):
    """What a strict reader refuses: that it comes here is an error of the sidecar's."""


class BrokenOff(Exception):
    """A body that ends too soon: nobody has asked for anything."""


class Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        try:
            self.body()
        except Malformed as why:
            os.write(record, b"malformed %s\n" % str(why).encode())
            self.close_connection = True
            return
        except BrokenOff:
            self.close_connection = True
            return
        os.write(record, self.path.encode("latin-1") + b"\n")
        self.send_response_only(200)
        self.send_header("X-Seen", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self):
        lengths = self.headers.get_all("Content-Length", [])
        codings = self.headers.get_all("Transfer-Encoding", [])
        if codings:
            if codings != ["chunked"] or lengths:
                raise Malformed("framing")
            self.chunks()
        elif lengths:
            if len(lengths) > 1 or not lengths[0].isascii() or not lengths[0].isdigit():
                raise Malformed("length")
            self.exactly(int(lengths[0]))

    def chunks(self):
        while True:
            line = self.line()
            size = line.split(b";")[0]
            if not size or size.strip(b"0123456789abcdefABCDEF"):
                raise Malformed("chunk size")
            if int(size, 16) == 0:
                break
            self.exactly(int(size, 16))
            if self.exactly(2) != b"\r\n":
                raise Malformed("chunk end")
        while self.line():
            pass

    def line(self):
        line = self.rfile.readline(65536)
        if not line.endswith(b"\n"):
            raise BrokenOff
        if not line.endswith(b"\r\n"):
            raise Malformed("line")
        return line[:-2]

    def exactly(self, n):
        data = self.rfile.read(n)
        if len(data) != n:
            raise BrokenOff
        return data

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
server.daemon_threads = True
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
