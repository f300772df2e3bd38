"""An operator that reconciles a custom resource, in the kopf framework.

It keeps a ConfigMap for each Greeting, writes status, and lets a finalizer go
when its Greeting is deleted. Run by `kopf run`; the story looks at the objects.
"""

import kopf
from kubernetes import client, config

config.load_kube_config()
core = client.CoreV1Api()


@kopf.on.create("greetings.example.com", "v1", "greetings")
@kopf.on.update("greetings.example.com", "v1", "greetings")
def reconcile(spec, name, namespace, body, patch, **_):
    text = f"Hello, {spec['who']}!"
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"greeting-{name}"},
        "data": {"text": text},
    }
    kopf.append_owner_reference(wanted, owner=body)
    try:
        core.create_namespaced_config_map(namespace, wanted)
    except client.ApiException as error:
        if error.status != 409:
            raise
        core.patch_namespaced_config_map(f"greeting-{name}", namespace, wanted)
    patch.status["text"] = text


@kopf.on.delete("greetings.example.com", "v1", "greetings")
def farewell(name, namespace, **_):
    core.create_namespaced_config_map(
        namespace,
        {"metadata": {"name": f"farewell-{name}"}, "data": {"text": "Good-bye."}},
    )
