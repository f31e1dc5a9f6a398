"""A stand-in for Google's cloud storage on loopback: what lies in a folder, by its JSON API."""

import contextlib
import http.server
import threading
import urllib.parse


@contextlib.contextmanager
def serving(root):
    """Serves gs://BUCKET/… from root/BUCKET/… -> the address for TENSORSTORE_GCS_HTTP_URL, and a
    list that collects the names of the objects asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            # /storage/v1/b/BUCKET/o/NAME?alt=media
            path = urllib.parse.urlparse(self.path).path
            bucket, _, name = path.removeprefix("/storage/v1/b/").partition("/o/")
            name = urllib.parse.unquote(name)
            asked.append(name)
            file = root / bucket / name
            content = file.read_bytes() if file.is_file() else b"{}"
            self.send_response(200 if file.is_file() else 404)
            self.send_header("x-goog-generation", "1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
