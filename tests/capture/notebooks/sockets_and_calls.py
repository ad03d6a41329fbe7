# style: exploratory
# about: a helper that talks to a local HTTP server which the handler starts in initialize, requests by urllib and json, timeouts, an environment of constants, a client class whose session is made lazily
# input: {"city": "Paris"}
# input: {"city": "Nowhere"}
# input: {"city": "Paris", "unit": "F"}
# insensitive: TIMEOUT_S, Client, USER_AGENT
# undetected: TIMEOUT_S, urllib, urllib.error, urllib.parse, urllib.request
# %%
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
# %%
TIMEOUT_S = 5.0
USER_AGENT = "notebook/0.1"
# %%
TEMPERATURES = {"Paris": 14.5, "Oslo": 2.0}
# %%
class Fake(BaseHTTPRequestHandler):
    """the real service costs money"""
    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        found = TEMPERATURES.get(query.get("city"))
        data = json.dumps({"t": found, "agent": self.headers["User-Agent"]}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
# %%
def start_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
# %%
class Client:
    def __init__(self, base=None):
        self.base, self._opener, self._lock = base, None, threading.Lock()

    @property
    def opener(self):
        with self._lock:
            if self._opener is None:
                self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                self._opener.addheaders = [("User-Agent", USER_AGENT)]
        return self._opener

    def get(self, path, **query):
        url = f"{self.base}{path}?{urllib.parse.urlencode(query)}"
        with self.opener.open(url, timeout=TIMEOUT_S) as reply:
            return json.load(reply)

client = Client()
# %%
def convert(t, unit):
    return t * 9 / 5 + 32 if unit == "F" else t
# %%
def temperature(city, unit="C"):
    try:
        found = client.get("/now", city=city)
    except urllib.error.HTTPError as exc:
        return {"error": exc.code}
    return {"t": convert(found["t"], unit), "agent": found["agent"]}
# %%
convert(10, "F")
# %%
RETRY_ON = {502, 503}  # not used after all
# %%
def describe(answer):
    return f"{answer['t']:.1f} by {answer['agent']}" if "t" in answer else f"failed: {answer['error']}"
# %%
describe({"t": 1.0, "agent": "x"}), describe({"error": 404})
# %%
%%serve_handler weather --sample {"city": "Paris"}
class Weather:
    def initialize(self, context):
        client.base = start_server()

    def inference(self, rows):
        return [describe(temperature(row["city"], row.get("unit", "C"))) for row in rows]
