"""Admission webhooks, a path each, as the conformance suite's own server has them.

Arguments: the address to listen at, its port, and a certificate's and a key's files.
"""

import base64
import http.server
import json
import ssl
import sys
import time

address, port, certificate, key = sys.argv[1:]


def refuse(message):
    return {"allowed": False, "status": {"message": message, "reason": message}}


def change(*operations):
    patch = [dict(zip(("op", "path", "value"), operation)) for operation in operations]
    patch = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"allowed": True, "patch": patch, "patchType": "JSONPatch"}


def pods(asked):
    pod = asked["object"]
    why = []
    if any("webhook-disallow" in c["name"] for c in pod["spec"]["containers"]):
        why.append("the pod contains unwanted container name")
    if pod["metadata"].get("labels", {}).get("webhook-e2e-test") == "webhook-disallow":
        why.append("the pod contains unwanted label")
    return refuse("; ".join(why)) if why else {"allowed": True}


def attaching(asked):
    told = (asked["name"], asked["subResource"], asked["object"]["kind"], asked["operation"])
    if told == ("to-be-attached-pod", "attach", "PodAttachOptions", "CONNECT"):
        return refuse("attaching to pod 'to-be-attached-pod' is not allowed")
    return {"allowed": True}


def configmaps(asked):
    if asked["operation"] == "DELETE":
        thing = asked["oldObject"]
    else:
        thing = asked["object"]
    if "webhook-e2e-test" in thing.get("data", {}):
        return refuse("the configmap contains unwanted key and value")
    return {"allowed": True}


def next_stage(asked):
    """Whoever comes first starts; each after it needs what the one before did."""
    data = asked["object"].get("data", {})
    operations = []
    if data.get("mutation-start") == "yes":
        operations.append(("add", "/data/mutation-stage-1", "yes"))
    if data.get("mutation-stage-1") == "yes":
        operations.append(("add", "/data/mutation-stage-2", "yes"))
    return change(*operations) if operations else {"allowed": True}


def sidecar(asked):
    container = {"name": "webhook-added-init-container", "image": "webhook-added-image"}
    if any(c["name"] == container["name"] for c in asked["object"]["spec"].get("initContainers", [])):
        return {"allowed": True}
    return change(("add", "/spec/initContainers", [container]))


def custom(asked):
    thing = asked["oldObject"] if asked["operation"] == "DELETE" else asked["object"]
    if thing.get("data", {}).get("webhook-e2e-test") == "webhook-disallow":
        return refuse("the custom resource contains unwanted data")
    return {"allowed": True}


def definition(asked):
    labels = (asked["object"]["metadata"].get("labels") or {})
    if labels.get("webhook-e2e-test") == "webhook-disallow":
        return refuse("the crd contains unwanted label")
    return {"allowed": True}


def label(asked):
    where = "/metadata/labels"
    if asked["object"]["metadata"].get("labels"):
        return change(("add", where + "/added-label", "yes"))
    return change(("add", where, {"added-label": "yes"}))


def slow(asked):
    time.sleep(5)
    return {"allowed": True}


def warn(asked):
    return {"allowed": True, "warnings": ["somebody looks at this"]}


PATHS = {
    "/always-deny": lambda asked: refuse("this webhook denies all requests"),
    "/always-allow": lambda asked: {"allowed": True},
    "/always-allow-delay-5s": slow,
    "/warn": warn,
    "/add-label": label,
    "/pods": pods,
    "/pods/attach": attaching,
    "/mutating-pods": sidecar,
    "/configmaps": configmaps,
    "/mutating-configmaps": next_stage,
    "/custom-resource": custom,
    "/mutating-custom-resource": next_stage,
    "/crd": definition,
}


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = review["request"]
        response = PATHS[self.path.split("?")[0]](asked)
        answer = {**{k: review[k] for k in ("apiVersion", "kind")}, "response": {**response, "uid": asked["uid"]}}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer((address, int(port)), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
