"""An API server beside the cluster's own: flunders, and metrics whose values are theirs.

It runs in a pod, believes who asks only from the front proxy, and keeps nothing on disk.
Arguments: the port to listen at, and a certificate's and a key's files.
"""

import hashlib
import http.server
import json
import os
import ssl
import sys
import threading
import urllib.request
import uuid
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

port, certificate, key = sys.argv[1:]
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
WARDLE = "wardle.example.com/v1alpha1"
CUSTOM = "custom.metrics.k8s.io/v1beta2"
EXTERNAL = "external.metrics.k8s.io/v1beta1"
METRICS = "metrics.k8s.io/v1beta1"


def who_to_believe():
    """What kube-system/extension-apiserver-authentication says, read as any pod may be let read it."""
    host, api_port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    with open(f"{ACCOUNT}/token") as token:
        headers = {"Authorization": f"Bearer {token.read()}"}
    request = urllib.request.Request(f"https://{host}:{api_port}{path}", headers=headers)
    trust = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
        return json.load(answer)["data"]


BELIEVED = who_to_believe()
NAMES = json.loads(BELIEVED["requestheader-allowed-names"])


def header_of(what):
    return json.loads(BELIEVED[f"requestheader-{what}"])[0]


class Kept:
    """Flunders by namespace and name, and every event since the start."""

    def __init__(self):
        self.changed = threading.Condition()
        self.objects, self.events, self.revision = {}, [], 1

    def write(self, kind, flunder):
        self.revision += 1
        flunder["metadata"]["resourceVersion"] = str(self.revision)
        place = (flunder["metadata"]["namespace"], flunder["metadata"]["name"])
        if kind == "DELETED":
            del self.objects[place]
        else:
            self.objects[place] = flunder
        self.events.append((self.revision, {"type": kind, "object": flunder}))
        self.changed.notify_all()
        return flunder


KEPT = Kept()


class Refused(Exception):
    def __init__(self, code, reason, message):
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        }


def not_found(name):
    return Refused(404, "NotFound", f'flunders.wardle.example.com "{name}" not found')


def resources(group_version, rows):
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}


FLUNDERS = {
    "name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder",
    "shortNames": ["fl"], "verbs": ["create", "delete", "get", "list", "update", "watch"],
}
LISTS = {
    WARDLE: resources(WARDLE, [FLUNDERS]),
    CUSTOM: resources(CUSTOM, [{
        "name": "services/requests", "singularName": "", "namespaced": True,
        "kind": "MetricValueList", "verbs": ["get"],
    }]),
    METRICS: resources(METRICS, [{
        "name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": ["get", "list"],
    }]),
    EXTERNAL: resources(EXTERNAL, [{
        "name": "queue", "singularName": "", "namespaced": True,
        "kind": "ExternalMetricValueList", "verbs": ["get"],
    }]),
}
KIND = {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}
LETTER = {"type": "string", "description": "Is the metric of the flunder's name."}
DEFINITION = {
    "type": "object",
    "description": "Flunder is a thing of another API server.",
    "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "description": "What it is worth.", "properties": {"value": LETTER}},
    },
    "x-kubernetes-group-version-kind": [KIND],
}


def operation(action, reference):
    return {"operationId": f"{action}Flunder", "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": KIND,
            "responses": {"200": {"description": "OK", **reference}}}


def openapi_v3():
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/com.example.wardle.v1alpha1.Flunder"}}}
    path = f"/apis/{WARDLE}/namespaces/{{namespace}}/flunders/{{name}}"
    return {
        "openapi": "3.0.0", "info": {"title": "wardle", "version": "v1"},
        "paths": {path: {"get": operation("get", {"content": content})}},
        "components": {"schemas": {"com.example.wardle.v1alpha1.Flunder": DEFINITION}},
    }


def openapi_v2():
    name = "com.example.wardle.v1alpha1.Flunder"
    path = f"/apis/{WARDLE}/namespaces/{{namespace}}/flunders/{{name}}"
    return {
        "swagger": "2.0", "info": {"title": "wardle", "version": "v1"},
        "paths": {path: {"get": operation("get", {"schema": {"$ref": f"#/definitions/{name}"}})}},
        "definitions": {name: DEFINITION},
    }


def value_of(namespace, metric):
    with KEPT.changed:
        flunder = KEPT.objects.get((namespace, metric))
    if not flunder:
        raise not_found(metric)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"timestamp": now, "value": flunder["spec"]["value"]}


class Extension(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def who(self):
        """Whoever the front proxy says; a name without its certificate is nobody."""
        subject = (self.connection.getpeercert() or {}).get("subject", ())
        names = [value for part in subject for field, value in part if field == "commonName"]
        if not set(names) & set(NAMES):
            raise Refused(401, "Unauthorized", "Unauthorized")
        groups = self.headers.get_all(header_of("group-headers")) or []
        return self.headers[header_of("username-headers")], groups

    def answer(self, code, thing, headers=()):
        body = json.dumps(thing).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            if url.path == "/healthz":
                return self.answer(200, "ok")
            user, groups = self.who()
            return self.route(url.path.strip("/").split("/"), query, body, user, groups)
        except Refused as refused:
            return self.answer(refused.code, refused.status)

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def route(self, parts, query, body, user, groups):
        match parts:
            case ["openapi", "v3"]:
                text = json.dumps(openapi_v3()).encode()
                url = f"/openapi/v3/apis/{WARDLE}?hash={hashlib.sha256(text).hexdigest()[:16]}"
                return self.answer(200, {"paths": {f"apis/{WARDLE}": {"serverRelativeURL": url}}})
            case ["openapi", "v3", "apis", "wardle.example.com", "v1alpha1"]:
                return self.answer(200, openapi_v3(), [("ETag", '"wardle"')])
            case ["openapi", "v2"]:
                return self.answer(200, openapi_v2())
            case ["apis", group, version] if f"{group}/{version}" in LISTS:
                return self.answer(200, LISTS[f"{group}/{version}"])
            case ["apis", "custom.metrics.k8s.io", "v1beta2", "namespaces", namespace, "services", name, metric]:
                described = {"kind": "Service", "namespace": namespace, "name": name, "apiVersion": "/v1"}
                item = {"describedObject": described, "metric": {"name": metric}, **value_of(namespace, metric)}
                return self.answer(200, {"kind": "MetricValueList", "apiVersion": CUSTOM, "metadata": {}, "items": [item]})
            case ["apis", "external.metrics.k8s.io", "v1beta1", "namespaces", namespace, metric]:
                item = {"metricName": metric, "metricLabels": {}, **value_of(namespace, metric)}
                return self.answer(200, {"kind": "ExternalMetricValueList", "apiVersion": EXTERNAL, "metadata": {}, "items": [item]})
            case ["apis", "metrics.k8s.io", "v1beta1", "nodes"]:
                item = {"metadata": {"name": "told-by-another"}, "usage": {"cpu": "1", "memory": "1Mi"}}
                return self.answer(200, {"kind": "NodeMetricsList", "apiVersion": METRICS, "metadata": {}, "items": [item]})
            case ["apis", "wardle.example.com", "v1alpha1", "flunders"]:
                return self.collection("", query)
            case ["apis", "wardle.example.com", "v1alpha1", "namespaces", namespace, "flunders"]:
                if self.command == "POST":
                    return self.create(namespace, body, user, groups)
                return self.collection(namespace, query)
            case ["apis", "wardle.example.com", "v1alpha1", "namespaces", namespace, "flunders", name]:
                return self.one(namespace, name, body)
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def create(self, namespace, flunder, user, groups):
        meta = flunder.setdefault("metadata", {})
        meta["namespace"], meta["uid"] = namespace, str(uuid.uuid4())
        meta["creationTimestamp"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta.setdefault("annotations", {}).update({"wardle/user": user, "wardle/groups": ",".join(groups)})
        with KEPT.changed:
            if (namespace, meta["name"]) in KEPT.objects:
                message = f'flunders.wardle.example.com "{meta["name"]}" already exists'
                raise Refused(409, "AlreadyExists", message)
            made = KEPT.write("ADDED", flunder)
        self.answer(201, made)

    def one(self, namespace, name, body):
        with KEPT.changed:
            known = KEPT.objects.get((namespace, name))
            if not known:
                raise not_found(name)
            if self.command == "PUT":
                same = ("uid", "creationTimestamp", "annotations", "namespace")
                body["metadata"].update({field: known["metadata"][field] for field in same})
                known = KEPT.write("MODIFIED", body)
            if self.command == "DELETE":
                KEPT.write("DELETED", {**known, "metadata": dict(known["metadata"])})
        if self.command == "DELETE":
            return self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        return self.answer(200, known)

    def collection(self, namespace, query):
        if query.get("watch") in ("1", "true"):
            return self.watch(namespace, query.get("resourceVersion"))
        with KEPT.changed:
            items = [f for (place, _), f in sorted(KEPT.objects.items()) if namespace in ("", place)]
            revision = str(KEPT.revision)
        meta = {"resourceVersion": revision}
        self.answer(200, {"kind": "FlunderList", "apiVersion": WARDLE, "metadata": meta, "items": items})

    def watch(self, namespace, since):
        """Events until the client leaves; a server of old, which knows no list in a watch."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with KEPT.changed:
            told = int(since) if since not in (None, "", "0") else KEPT.revision
            first = [] if since not in (None, "", "0") else [
                {"type": "ADDED", "object": f} for (place, _), f in KEPT.objects.items() if namespace in ("", place)]
        try:
            self.say(first)
            while True:
                with KEPT.changed:
                    KEPT.changed.wait_for(lambda: KEPT.revision > told)
                    new = [event for revision, event in KEPT.events if revision > told]
                    told = KEPT.revision
                self.say([e for e in new if namespace in ("", e["object"]["metadata"]["namespace"])])
        except OSError:
            self.close_connection = True

    def say(self, events):
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self):
        # The handshake is the thread's: one that says nothing holds up nobody else.
        stream, address = super().get_request()
        return CONTEXT.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), address


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CONTEXT.load_cert_chain(certificate, key)
CONTEXT.load_verify_locations(cadata=BELIEVED["requestheader-client-ca-file"])
CONTEXT.verify_mode = ssl.CERT_OPTIONAL
print("listening", flush=True)
Server(("", int(port)), Extension).serve_forever()
