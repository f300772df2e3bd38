"""A conversion webhook: `hostPort` in v1 is `host` and `port` in v2.

Arguments: the address to listen at, its port, and a certificate's and a key's files.
"""

import http.server
import json
import ssl
import sys

address, port, certificate, key = sys.argv[1:]


def converted(thing, version):
    spec = dict(thing.get("spec", {}))
    if version.endswith("/v2") and "hostPort" in spec:
        spec["host"], spec["port"] = spec.pop("hostPort").split(":")
    if version.endswith("/v1") and "host" in spec:
        spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port')}"
    return {**thing, "apiVersion": version, "spec": spec}


class Converter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = review["request"]
        response = {
            "uid": asked["uid"],
            "result": {"status": "Success"},
            "convertedObjects": [
                converted(thing, asked["desiredAPIVersion"]) for thing in asked["objects"]
            ],
        }
        answer = {**{k: review[k] for k in ("apiVersion", "kind")}, "response": response}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer((address, int(port)), Converter)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
