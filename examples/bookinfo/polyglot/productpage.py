"""productpage, the front page of BookInfo: it asks details and reviews and shows what they say.

    python3 productpage.py 9080 [0.0.0.0]

Standard library only, and nothing of a mesh: the services are called by their names, and where these lead is
up to the HTTP proxy that the environment names, as for any program, or to whoever captures the calls.
"""

import html
import http.client
import http.server
import json
import os
import platform
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CALL_TIMEOUT = 3.0  # seconds for one call, as in the original
REVIEWS_ATTEMPTS = 2  # its deliberate fault: with a delay of 7 s both fail
SESSION_COOKIE = "session"

# What a service passes on when it calls another one: who is asking, and what belongs to tracing.
FORWARDED = """x-request-id x-ot-span-context x-datadog-trace-id x-datadog-parent-id x-datadog-sampling-priority
    traceparent tracestate x-cloud-trace-context grpc-trace-bin x-b3-traceid x-b3-spanid x-b3-parentspanid
    x-b3-sampled x-b3-flags b3 sw8 end-user user-agent cookie authorization jwt""".split()

STATIC = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
UNREADABLE = "Sorry, the answer could not be read."
NAME = "%s (Python %s)" % (os.environ.get("HOSTNAME") or "productpage-v1", platform.python_version())


def read(*path):
    with open(os.path.join(ROOT, *path), "rb") as file:
        return file.read()


PAGES = {name: read("page", name).decode() for name in ("index.html", "productpage.html")}
PRODUCTS = json.loads(read("page", "products.json"))


# --- Pages ---------------------------------------------------------------------------------------------------

PLACEHOLDER = re.compile(r"\{\{\{(\w+)\}\}\}|\{\{(\w+)\}\}|\{\{([#^])(\w+)\}\}")


def fill(text, *scope):
    """Replaces {{text}}, {{{html}}}, {{#section}}…{{/section}} and {{^without}}…{{/without}}; template.go says more."""
    out = []
    while True:
        at = PLACEHOLDER.search(text)
        if not at:
            return "".join(out) + text
        out.append(text[: at.start()])
        text = text[at.end() :]
        raw, escaped, kind, name = at.groups()
        value = next((v[raw or escaped or name] for v in reversed(scope) if (raw or escaped or name) in v), None)
        if raw:
            out.append(value if isinstance(value, str) else "")
        elif escaped:
            out.append(html.escape(value, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") if isinstance(value, str) else "")
        else:
            inner, _, text = text.partition("{{/" + name + "}}")
            times = value if isinstance(value, list) else [value if isinstance(value, dict) else {}] if value else []
            if kind == "^":
                times = [] if times else [{}]
            out.extend(fill(inner, *scope, one) for one in times)


def programs(served_by):
    """Reads who answered: "reviews-v2 (Java 17.0.15), ratings-v1 (Node 20.1.0)"."""
    found = (re.fullmatch(r"(.*?) \((.*?)\)?", one) for one in served_by.split(", "))
    return [{"name": one[1], "runtime": one[2]} for one in found if one]


def show_details(answer):
    if answer.status != 200:
        return {"detailsError": error_of(answer.body)}
    try:
        book = json.loads(answer.body)
        names = {"isbn10": "ISBN-10", "isbn13": "ISBN-13"}
        keys = ("author", "year", "type", "pages", "publisher", "language", "isbn10", "isbn13")
        return {"details": {key: str(book[names.get(key, key)]) for key in keys}}
    except (ValueError, KeyError, TypeError):
        return {"detailsError": UNREADABLE}


def show_reviews(answer):
    if answer.status != 200:
        return {"reviewsError": error_of(answer.body)}
    try:
        reviews = json.loads(answer.body)
        return {"reviews": [show_review(one) for one in reviews["reviews"]], "podname": str(reviews["podname"])}
    except (ValueError, KeyError, TypeError):
        return {"reviewsError": UNREADABLE}


def show_review(review):
    rating = review.get("rating") or {}
    shown = {"reviewer": str(review["reviewer"]), "text": str(review["text"]), "stars": None, "ratingError": ""}
    if rating.get("error"):
        shown["ratingError"] = str(rating["error"])
    elif rating.get("stars") is not None:
        stars = max(0, min(int(rating["stars"]), 5))
        shown["stars"] = {"count": str(stars), "color": str(rating.get("color", "")), "full": "★" * stars, "empty": "☆" * (5 - stars)}
    return shown


def error_of(body):
    try:
        return json.loads(body)["error"] or UNREADABLE
    except (ValueError, KeyError, TypeError):
        return UNREADABLE


# --- Calls ---------------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, status, body=b"", served=""):
        self.status, self.body, self.served = status, body, served


counts = {}
counting = threading.Lock()


def upstream(name):
    """The URL of a service by the environment of the originals."""
    env = name.upper()
    host = os.environ.get(env + "_HOSTNAME") or name
    domain = os.environ.get("SERVICES_DOMAIN")
    return "http://%s:%s" % (host + ("." + domain if domain else ""), os.environ.get(env + "_SERVICE_PORT") or "9080")


def call(url, headers):
    """One GET on a connection of its own, which urllib closes, as the original does: each call is balanced anew."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=CALL_TIMEOUT) as response:
            return Answer(response.status, response.read(1 << 20), response.headers.get("x-served-by", ""))
    except urllib.error.HTTPError as response:
        with response:
            return Answer(response.code, served=response.headers.get("x-served-by", ""))
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(0)


def ask(name, product, headers, attempts=1):
    """Calls a back end. Whatever goes wrong becomes the status of the callee, or 500, and an apology."""
    for _ in range(attempts):
        answer = call("%s/%s/%s" % (upstream(name), name, product), headers)
        with counting:
            key = (name, answer.status)
            counts[key] = counts.get(key, 0) + 1
        if answer.status == 200:
            return answer
    message = "Sorry, product %s are currently unavailable for this book." % name
    return Answer(answer.status or 500, as_json({"error": message}), answer.served)


def details(product, headers):
    return ask("details", product, headers)


def reviews(product, headers):
    return ask("reviews", product, headers, REVIEWS_ATTEMPTS)


def ratings(product, headers):
    return ask("ratings", product, headers)


def as_json(value):
    return json.dumps(value).encode()


def nameable(name):
    """Names that may travel in a header."""
    return len(name.encode(errors="replace")) <= 64 and not re.search(r"[\x00-\x1f\x7f]", name)


# --- Server --------------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body in one piece
    timeout = 60  # of a silent connection
    served = ""

    def handle_expect_100(self):
        """The client waits for it with its body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("GET")

    def do_POST(self):
        self.route("POST")

    def route(self, method):
        self.served = ""
        with self.server.busy():
            if "chunked" in self.headers.get("transfer-encoding", "").lower():
                self.close_connection = True
                return self.reply(411, "a length is needed\n")
            try:
                length = int(self.headers.get("content-length") or 0)
            except ValueError:
                length = -1
            if not 0 <= length <= 4096:
                self.close_connection = True
                return self.reply(400, "the request's body cannot be read\n")
            self.body = self.rfile.read(length)
            path = self.path.partition("?")[0]
            pages = {"GET": self.get(path), "POST": self.post(path)}
            if pages[method]:
                return pages[method]()
            if any(pages.values()):
                return self.reply(405, "method not allowed\n", Allow=", ".join(m for m in pages if pages[m]))
            self.reply(404, "not found\n")

    def get(self, path):
        if path in ("/", "/index.html"):
            return self.index
        if path.startswith("/static/") and path[8:] in STATIC:
            return lambda: self.reply(200, read("static", path[8:]), STATIC[path[8:]])
        api = re.fullmatch(r"/api/v1/products/([^/]+)(?:/(reviews|ratings))?", path)
        if api:
            return lambda: self.api(api[1], {None: details, "reviews": reviews, "ratings": ratings}[api[2]])
        return {
            "/productpage": self.page,
            "/logout": self.logout,
            "/metrics": self.metrics,
            "/health": lambda: self.reply(200, "Product page is healthy"),
            "/api/v1/products": lambda: self.reply(200, as_json(PRODUCTS), "application/json"),
        }.get(path)

    def post(self, path):
        return {"/login": self.login}.get(path)

    def index(self):
        services = [
            {"name": "details", "url": upstream("details"), "caller": "productpage"},
            {"name": "reviews", "url": upstream("reviews"), "caller": "productpage"},
            {"name": "ratings", "url": upstream("ratings"), "caller": "reviews"},
        ]
        self.render("index.html", {"services": services})

    def page(self):
        book, user, headers = PRODUCTS[0], self.user(), self.forwarded()
        from_details, from_reviews = details(book["id"], headers), reviews(book["id"], headers)
        hops = [
            {"service": "productpage", "programs": programs(NAME)},
            {"service": "details", "programs": programs(from_details.served)},
            {"service": "reviews", "programs": programs(from_reviews.served)},
        ]
        values = {"user": user, "title": book["title"], "description": book["descriptionHtml"], "hops": hops}
        values.update(show_details(from_details), **show_reviews(from_reviews))
        self.render("productpage.html", values)

    def api(self, product, from_service):
        if not re.fullmatch(r"[0-9]{1,9}", product):
            return self.reply(400, as_json({"error": "please provide numeric product id"}), "application/json")
        answer = from_service(product, self.forwarded())
        self.served = answer.served
        self.reply(answer.status, answer.body, "application/json")

    def metrics(self):
        lines = ["# HELP request_result_total Results of requests\n", "# TYPE request_result_total counter\n"]
        with counting:
            for (name, status), n in sorted(counts.items()):
                lines.append('request_result_total{destination_app="%s",response_code="%d"} %d\n' % (name, status, n))
        self.reply(200, "".join(lines))

    def login(self):
        """Any password is right, as in the original."""
        try:
            form = urllib.parse.parse_qs(self.body.decode("ascii"), keep_blank_values=True, max_num_fields=16)
        except ValueError:
            return self.reply(400, "the form cannot be read\n")
        name = form.get("username", [""])[0]
        if not nameable(name):
            return self.reply(400, "a user name has at most 64 bytes and no control characters\n")
        self.redirect("%s=%s; Path=/; HttpOnly; SameSite=Lax" % (SESSION_COOKIE, urllib.parse.quote_plus(name)))

    def logout(self):
        self.redirect(SESSION_COOKIE + "=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")

    def redirect(self, cookie):
        self.reply(302, "", **{"Location": "/productpage", "Set-Cookie": cookie})

    def user(self):
        for cookie in self.headers.get("cookie", "").split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == SESSION_COOKIE:
                user = urllib.parse.unquote_plus(value)
                return user if nameable(user) else ""
        return ""

    def forwarded(self):
        """The headers for calls. It is by end-user that rules know jason."""
        headers = {name: ", ".join(self.headers.get_all(name)) for name in FORWARDED if name in self.headers}
        headers.pop("end-user", None)
        if self.user():
            headers["end-user"] = self.user().encode(errors="replace").decode("latin-1")
        return headers

    def render(self, name, values):
        page = fill(PAGES[name], values)
        self.reply(200, page, "text/html; charset=utf-8", **{"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    def reply(self, status, body, kind="text/plain; charset=utf-8", **headers):
        body = body.encode(errors="replace") if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", ", ".join(filter(None, (NAME, self.served))))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path != "/health":
            trace = (self.headers.get("x-request-id", ""), self.headers.get("traceparent", ""))
            sys.stdout.write("%s %s %d x-request-id=%s traceparent=%s\n" % ((self.command, self.path, code) + trace))
            sys.stdout.flush()

    def log_message(self, format, *args):
        """Only requests are logged."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # connections that only wait for a next request do not keep the program

    def __init__(self, port, address="127.0.0.1"):
        super().__init__((address, port), Handler)
        self.requests = 0
        self.changed = threading.Condition()

    def server_bind(self):
        """Without the look-up of the host's name, which may take its time."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def busy(self):
        """Counts the requests under way."""
        return Busy(self)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def end(self, *_):
        """Ends the loop of serve_forever, which must not be waited for in its own thread."""
        threading.Thread(target=self.shutdown).start()

    def drain(self, seconds):
        until = time.monotonic() + seconds
        with self.changed:
            self.changed.wait_for(lambda: self.requests == 0, until - time.monotonic())


class Busy:
    def __init__(self, server):
        self.server = server

    def __enter__(self):
        with self.server.changed:
            self.server.requests += 1

    def __exit__(self, *_):
        with self.server.changed:
            self.server.requests -= 1
            self.server.changed.notify_all()


def main():
    server = Server(int(sys.argv[1]) if len(sys.argv) > 1 else 9080, *sys.argv[2:3])
    signal.signal(signal.SIGTERM, server.end)
    signal.signal(signal.SIGINT, server.end)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.drain(5)


if __name__ == "__main__":
    main()
