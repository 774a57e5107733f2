"""Files of a directory by http.server, and a secret by Host and by X-Role, as programs of Python's own server give them away."""

import http.server
import sys
import threading

directory, secret = sys.argv[1:]


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=directory)

    def do_GET(self):
        roles = ",".join(self.headers.get_all("X-Role", []))
        host = self.headers.get("Host", "").split(":")[0].rstrip(".").lower()
        if host == "secret.example" or self.path.startswith("/role") and "admin" in [r.strip() for r in roles.split(",")]:
            self.send_response(200)
            self.send_header("Content-Length", str(len(secret)))
            self.end_headers()
            self.wfile.write(secret.encode())
            return
        super().do_GET()

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
