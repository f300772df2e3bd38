"""A client that speaks nothing but protobuf, with Google's encoder and messages
made from facts about the API (types.json and resources.json, the arguments), not
from skiff's own tables.
"""

import json
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from kubernetes import config

PROTOBUF = "application/vnd.kubernetes.protobuf"
FACTS = json.load(open(sys.argv[1]))
SCALARS = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "bool": Field.TYPE_BOOL,
    "int": Field.TYPE_INT64,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "byte": Field.TYPE_UINT32,
    "float64": Field.TYPE_DOUBLE,
}


def identifier(key):
    return "".join(c if c.isalnum() else "_" for c in key)


def resolve(name):
    """Follows names of what is no message: enums, lists and maps by name."""
    while name in FACTS and "alias" in FACTS[name] and "pitems" not in FACTS[name]:
        alias = FACTS[name]["alias"]
        if alias.get("k"):
            break
        name = alias["t"]
    return name


class Messages:
    """The descriptors, made as they are asked for."""

    def __init__(self):
        self.file = descriptor_pb2.FileDescriptorProto(name="kubernetes.proto", package="k")
        self.known = set()

    def add(self, key):
        if key in self.known:
            return
        self.known.add(key)
        message = self.file.message_type.add(name=identifier(key))
        facts = FACTS[key]
        if "pitems" in facts:
            alias = facts["alias"]
            items = {"n": "items", "p": facts["pitems"], "t": alias["t"], "k": "list"}
            self.field(message, items)
            return
        for field in facts.get("fields") or facts.get("prim", {}).get("proto", []):
            if field.get("p") is not None:
                self.field(message, field)

    def field(self, message, facts):
        name = facts.get("pn") or facts.get("n", "-")
        if name == "-":
            name = facts.get("go") or facts["t"].split(".")[-1]
        field = message.field.add(name=name[:1].lower() + name[1:], number=facts["p"])
        field.label = Field.LABEL_OPTIONAL
        kind, ty = facts.get("k"), resolve(facts["t"])
        named = FACTS.get(ty, {})
        if "alias" in named and "pitems" not in named:
            kind, ty = named["alias"]["k"], named["alias"]["t"]
        if kind == "map":
            field.label = Field.LABEL_REPEATED
            entry = message.nested_type.add(name=f"{name[:1].upper()}{name[1:]}Entry")
            entry.options.map_entry = True
            for number, part, of in [(1, "key", "string"), (2, "value", ty)]:
                inner = entry.field.add(name=part, number=number, label=Field.LABEL_OPTIONAL)
                self.type(inner, of)
            field.type = Field.TYPE_MESSAGE
            field.type_name = f".k.{message.name}.{entry.name}"
            return
        if kind == "list":
            field.label = Field.LABEL_REPEATED
        self.type(field, ty)

    def type(self, field, ty):
        ty = resolve(ty)
        if ty in SCALARS:
            field.type = SCALARS[ty]
            return
        self.add(ty)
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".k.{identifier(ty)}"

    def classes(self):
        pool = descriptor_pool.DescriptorPool()
        pool.Add(self.file)
        return lambda key: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"k.{identifier(key)}")
        )


messages = Messages()
RESOURCES = [r for r in json.load(open(sys.argv[2]))["resources"] if r["served"] == "default"]
for resource in RESOURCES:
    for key in (resource["type"], resource["type"] + "List"):
        if key in FACTS:
            messages.add(key)
for key in (
    "runtime.Unknown", "meta/v1.Status", "meta/v1.WatchEvent", "meta/v1.DeleteOptions",
    "autoscaling/v1.Scale", "RawExtension",
):
    messages.add(key)
message = messages.classes()


def pack(api_version, kind, body):
    unknown = message("runtime.Unknown")()
    unknown.typeMeta.apiVersion, unknown.typeMeta.kind = api_version, kind
    unknown.raw = body.SerializeToString()
    return b"k8s\0" + unknown.SerializeToString()


def has_unknown(body):
    """Whether anything was sent that the facts do not know."""
    known = type(body)()
    known.CopyFrom(body)
    known.DiscardUnknownFields()
    # Maps have no order but this.
    return body.SerializeToString(deterministic=True) != known.SerializeToString(deterministic=True)


def unpack(data, key=None):
    assert data[:4] == b"k8s\0", data[:40]
    unknown = message("runtime.Unknown").FromString(data[4:])
    kind = unknown.typeMeta.kind
    if key is None:
        key = "meta/v1.Status" if kind == "Status" else None
    body = message(key).FromString(unknown.raw)
    assert not has_unknown(body), f"{kind}: fields that the facts do not know"
    return unknown.typeMeta, body


api = config.new_client_from_config()
HOST = api.configuration.host


def ask(method, path, body=None, content_type=PROTOBUF, stream=False):
    headers = {"Accept": PROTOBUF + (";stream=watch" if stream else ""), "User-Agent": "protobuf-only"}
    if body is not None:
        headers["Content-Type"] = content_type
    return api.rest_client.pool_manager.request(
        method, HOST + path, body=body, headers=headers, preload_content=not stream
    )


def done(method, path, key, body=None, content_type=PROTOBUF):
    answer = ask(method, path, body, content_type)
    assert answer.status < 300, (method, path, answer.status, answer.data[:500])
    assert answer.headers["Content-Type"].startswith(PROTOBUF), answer.headers
    return unpack(answer.data, key)[1]


def refused(code, reason, method, path, body=None):
    answer = ask(method, path, body)
    assert answer.status == code, (answer.status, answer.data[:500])
    meta, status = unpack(answer.data)
    assert (meta.kind, status.reason, status.code) == ("Status", reason, code), status


# Every collection there is, in a namespace or not.
listed = 0
for resource in RESOURCES:
    if "list" not in resource["verbs"]:
        continue
    group, version = resource["group"], resource["version"]
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    key = resource["type"] + "List"
    items = done("GET", f"{root}/{resource['plural']}", key)
    assert items.metadata.resourceVersion, resource["plural"]
    listed += 1
assert listed > 50, listed

# A namespace and a Deployment of every field type: maps, lists, quantities,
# numbers or text, pointers, times.
namespace = message("core/v1.Namespace")()
namespace.metadata.name = "protobuf-only"
made = done("POST", "/api/v1/namespaces", "core/v1.Namespace", pack("v1", "Namespace", namespace))
assert made.metadata.creationTimestamp.seconds > 1_700_000_000 and made.status.phase == "Active"
deployment = message("apps/v1.Deployment")()
deployment.metadata.name = "web"
deployment.metadata.labels["app"] = "web"
spec = deployment.spec
spec.replicas = 1
spec.selector.matchLabels["app"] = "web"
spec.strategy.type = "RollingUpdate"
spec.strategy.rollingUpdate.maxSurge.type = 1
spec.strategy.rollingUpdate.maxSurge.strVal = "50%"
spec.strategy.rollingUpdate.maxUnavailable.intVal = 0
spec.template.metadata.labels["app"] = "web"
container = spec.template.spec.containers.add()
container.name, container.image = "main", "skiff.local/toolbox"
container.args.extend(["sleep", "infinity"])
container.resources.requests["memory"].string = "16Mi"
container.env.add(name="NUMBER", value="1")
spec.template.spec.terminationGracePeriodSeconds = 0
DEPLOYMENTS = "/apis/apps/v1/namespaces/protobuf-only/deployments"
made = done("POST", DEPLOYMENTS, "apps/v1.Deployment", pack("apps/v1", "Deployment", deployment))
assert made.spec.strategy.rollingUpdate.maxSurge.strVal == "50%"
assert made.spec.template.spec.containers[0].resources.requests["memory"].string == "16Mi"
assert made.spec.revisionHistoryLimit == 10 and made.metadata.generation == 1
assert made.metadata.managedFields[0].manager == "protobuf-only"

# It is watched until its pod is up: frames of a length and an event.
version = made.metadata.resourceVersion
stream = ask("GET", f"{DEPLOYMENTS}?watch=true&resourceVersion={version}", stream=True)
assert stream.status == 200, stream.status
while True:
    (length,) = struct.unpack(">I", stream.read(4))
    event = message("meta/v1.WatchEvent").FromString(stream.read(length))
    meta, seen = unpack(event.object.raw, "apps/v1.Deployment")
    assert (event.type, meta.kind) == ("MODIFIED", "Deployment"), event.type
    if seen.status.availableReplicas == 1:
        break
stream.close()

# Scale, update, an old version, patches (their bodies are JSON), pages, deletion.
scale = done("GET", f"{DEPLOYMENTS}/web/scale", "autoscaling/v1.Scale")
assert (scale.spec.replicas, scale.status.selector) == (1, "app=web"), scale
now = done("GET", f"{DEPLOYMENTS}/web", "apps/v1.Deployment")
now.spec.replicas = 0
updated = done("PUT", f"{DEPLOYMENTS}/web", "apps/v1.Deployment", pack("apps/v1", "Deployment", now))
assert updated.metadata.generation == now.metadata.generation + 1 and updated.spec.replicas == 0, updated
refused(409, "Conflict", "PUT", f"{DEPLOYMENTS}/web", pack("apps/v1", "Deployment", made))
refused(404, "NotFound", "GET", f"{DEPLOYMENTS}/none")
refused(400, "BadRequest", "POST", DEPLOYMENTS, b"k8s\0\xff\xff")
patched = done(
    "PATCH", f"{DEPLOYMENTS}/web", "apps/v1.Deployment",
    json.dumps({"metadata": {"annotations": {"a": "b"}}}).encode(), "application/merge-patch+json",
)
assert patched.metadata.annotations["a"] == "b"
MAPS = "/api/v1/namespaces/protobuf-only/configmaps"
for number in range(5):
    config_map = message("core/v1.ConfigMap")()
    config_map.metadata.name = f"map-{number}"
    config_map.data["text"] = "é\0"
    config_map.binaryData["bytes"] = bytes(range(256))
    made = done("POST", MAPS, "core/v1.ConfigMap", pack("v1", "ConfigMap", config_map))
    assert made.binaryData["bytes"] == bytes(range(256)) and made.data["text"] == "é\0"
names, token = [], ""
while True:
    page = done("GET", f"{MAPS}?limit=2&fieldSelector=metadata.name!=kube-root-ca.crt&continue={token}", "core/v1.ConfigMapList")
    names += [item.metadata.name for item in page.items]
    token = getattr(page.metadata, "continue")
    if not token:
        break
assert names == [f"map-{number}" for number in range(5)], names
options = message("meta/v1.DeleteOptions")()
options.preconditions.uid = "not-this"
refused(409, "Conflict", "DELETE", f"{MAPS}/map-0", pack("meta.k8s.io/v1", "DeleteOptions", options))
options = message("meta/v1.DeleteOptions")(propagationPolicy="Foreground")
done("DELETE", f"{DEPLOYMENTS}/web", "apps/v1.Deployment", pack("meta.k8s.io/v1", "DeleteOptions", options))
done("DELETE", "/api/v1/namespaces/protobuf-only", "core/v1.Namespace")
print(f"the protobuf client is content with {listed} collections")
