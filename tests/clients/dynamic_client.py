"""The dynamic Python client: discovery, apply, patches of each kind, and watches
that go on where they stopped.
"""

import json

from kubernetes import config, dynamic
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

api = dynamic.DynamicClient(config.new_client_from_config())
maps = api.resources.get(api_version="v1", kind="ConfigMap")
deployments = api.resources.get(api_version="apps/v1", kind="Deployment")
assert maps.namespaced and "cm" in maps.short_names, maps
assert deployments.subresources["scale"], deployments.subresources


def config_map(name, data, **metadata):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": data,
    }


made = maps.create(namespace="default", body=config_map("dynamic", {"a": "1"}))
first = made.metadata.resourceVersion

# Each kind of patch.
for content_type, patch in [
    ("application/merge-patch+json", {"data": {"b": "2"}}),
    ("application/strategic-merge-patch+json", {"data": {"c": "3"}}),
    ("application/json-patch+json", [{"op": "remove", "path": "/data/a"}]),
]:
    maps.patch(name="dynamic", namespace="default", body=patch, content_type=content_type)
assert maps.get(name="dynamic", namespace="default").data.to_dict() == {"b": "2", "c": "3"}

# Two managers of one object.
maps.server_side_apply(
    name="applied", namespace="default", body=config_map("applied", {"a": "1"}), field_manager="one"
)
maps.server_side_apply(
    name="applied", namespace="default", body=config_map("applied", {"b": "2"}), field_manager="two"
)
both = maps.get(name="applied", namespace="default")
assert both.data.to_dict() == {"a": "1", "b": "2"}, both
assert {entry.manager for entry in both.metadata.managedFields} == {"one", "two"}
try:
    maps.server_side_apply(
        name="applied", namespace="default", body=config_map("applied", {"a": "9"}), field_manager="two"
    )
    raise AssertionError("no conflict")
except ConflictError as error:
    assert 'conflict with "one"' in json.loads(error.body)["message"], error.body
maps.server_side_apply(
    name="applied",
    namespace="default",
    body=config_map("applied", {"a": "9"}),
    field_manager="two",
    force_conflicts=True,
)
left = maps.get(name="applied", namespace="default")
assert left.data.to_dict() == {"a": "9"}, "what nobody applies any more goes"

# A watch from an old version tells everything since, in order.
seen = []
for event in maps.watch(namespace="default", name="dynamic", resource_version=first, timeout=5):
    seen.append((event["type"], sorted(event["object"].data.to_dict())))
    if len(seen) == 3:
        break
assert seen == [
    ("MODIFIED", ["a", "b"]),
    ("MODIFIED", ["a", "b", "c"]),
    ("MODIFIED", ["b", "c"]),
], seen

maps.delete(name="dynamic", namespace="default")
maps.delete(name="applied", namespace="default")
try:
    maps.get(name="dynamic", namespace="default")
    raise AssertionError("still there")
except NotFoundError:
    print("the dynamic client is content")
