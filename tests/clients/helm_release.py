"""Helm (its Go code, by way of its SDK): install, upgrade, roll back, uninstall."""

import pathlib

import helm_python as helm
from kubernetes import client, config

CHART = pathlib.Path(__file__).parent / "chart"

config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()


def greeting():
    return core.read_namespaced_config_map("demo", "helmed").data


with helm.Config(namespace="helmed") as cluster:
    checked = cluster.install(CHART, "demo", dry_run="server", create_namespace=True)
    assert "kind: Deployment" in checked["manifest"], checked

    first = cluster.install(CHART, "demo", create_namespace=True, wait="watcher", timeout=90)
    assert (first["revision"], first["status"]) == (1, "deployed"), first
    assert greeting() == {"greeting": "hello", "cron": "served"}, greeting()
    assert apps.read_namespaced_deployment("demo", "helmed").status.available_replicas == 1

    second = cluster.upgrade(
        CHART, "demo", {"greeting": "moin", "replicas": 2}, wait="watcher", timeout=90
    )
    assert second["revision"] == 2, second
    assert greeting()["greeting"] == "moin"
    assert apps.read_namespaced_deployment("demo", "helmed").status.available_replicas == 2

    cluster.rollback("demo", version=1, wait="watcher", timeout=90)
    assert greeting()["greeting"] == "hello"
    assert [entry["revision"] for entry in cluster.history("demo")] == [1, 2, 3]
    assert [entry["name"] for entry in cluster.list()] == ["demo"]

    cluster.uninstall("demo", wait="watcher", timeout=90)
    assert cluster.list() == []
left = [item.metadata.name for item in apps.list_namespaced_deployment("helmed").items]
assert left == [], left
print("helm is content")
