"""The typed Python client: objects of several groups, status, logs, exec, watch.

Everything is asserted; what is printed is for whoever reads a failure.
"""

import time

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()
NAMESPACE = "python-typed"


def refused(code, reason, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == code, f"{error.status} instead of {code}: {error.body}"
        assert reason in error.body, f"no {reason} in {error.body}"
        return
    raise AssertionError(f"{call.__name__} was not refused")


version = client.VersionApi().get_code()
assert (version.major, version.minor) == ("1", "37"), version
core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))

# A ConfigMap through create, read, patch, replace with an old version, delete.
labels = {"app": "typed"}
made = core.create_namespaced_config_map(
    NAMESPACE,
    client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels=labels), data={"a": "1"}),
)
assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, made and client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name="settings")))
patched = core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"b": "2"}})
assert patched.data == {"a": "1", "b": "2"}
refused(409, "Conflict", core.replace_namespaced_config_map, "settings", NAMESPACE, made)
refused(404, "NotFound", core.read_namespaced_config_map, "nothing", NAMESPACE)
refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name="No Name")))
listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=typed")
assert [item.metadata.name for item in listed.items] == ["settings"]

# Pages of a list.
for number in range(7):
    core.create_namespaced_config_map(
        NAMESPACE,
        client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{number}", labels={"page": "y"})),
    )
names, token = [], None
while True:
    page = core.list_namespaced_config_map(NAMESPACE, label_selector="page=y", limit=3, _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"page-{number}" for number in range(7)], names

# A pod that runs, says something, and is looked into.
container = client.V1Container(
    name="main",
    image="skiff.local/toolbox",
    args=["sleep", "infinity"],
    env=[client.V1EnvVar(name="GREETING", value="hello")],
)
pod = client.V1Pod(
    metadata=client.V1ObjectMeta(name="typed", labels=labels),
    spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
)
core.create_namespaced_pod(NAMESPACE, pod)
watcher = watch.Watch()
for event in watcher.stream(core.list_namespaced_pod, NAMESPACE, timeout_seconds=60):
    if event["object"].status.phase == "Running":
        watcher.stop()
said = stream(
    core.connect_get_namespaced_pod_exec,
    "typed",
    NAMESPACE,
    command=["toolbox", "echo", "from", "inside"],
    stdout=True,
    stderr=True,
    stdin=False,
    tty=False,
)
assert said.strip() == "from inside", said
session = stream(
    core.connect_get_namespaced_pod_exec,
    "typed",
    NAMESPACE,
    command=["toolbox", "cat"],
    stdin=True,
    stdout=True,
    stderr=True,
    tty=False,
    _preload_content=False,
)
session.write_stdin("typed in\n")
assert session.readline_stdout(timeout=20) == "typed in"
session.close()
assert core.read_namespaced_pod_log("typed", NAMESPACE) == ""

# A Deployment is scaled through its subresource.
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container])
)
apps.create_namespaced_deployment(
    NAMESPACE,
    client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(
            replicas=0, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template
        ),
    ),
)
scaled = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
assert scaled.spec.replicas == 1
for event in watcher.stream(apps.list_namespaced_deployment, NAMESPACE, timeout_seconds=60):
    if event["object"].status.available_replicas == 1:
        watcher.stop()

# Kinds of other groups are served with their types.
batch.create_namespaced_job(
    NAMESPACE,
    client.V1Job(
        metadata=client.V1ObjectMeta(name="once"),
        spec=client.V1JobSpec(
            suspend=True,
            template=client.V1PodTemplateSpec(
                spec=client.V1PodSpec(containers=[container], restart_policy="Never")
            ),
        ),
    ),
)
assert batch.read_namespaced_job("once", NAMESPACE).spec.backoff_limit == 6
review = client.AuthorizationV1Api().create_self_subject_access_review(
    client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="delete", resource="nodes")
        )
    )
)
assert review.status.allowed

core.delete_namespaced_config_map("settings", NAMESPACE)
core.delete_namespace(NAMESPACE)
for event in watcher.stream(core.list_namespace, timeout_seconds=60):
    if event["type"] == "DELETED" and event["object"].metadata.name == NAMESPACE:
        watcher.stop()
refused(404, "NotFound", core.read_namespace, NAMESPACE)
print("the typed client is content")
