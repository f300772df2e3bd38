// Kubernetes' own client for JavaScript: objects, patches, apply, watches, an
// informer, logs, exec and port-forward. Its folder of modules is the argument.

import assert from "node:assert/strict";
import net from "node:net";
import { createRequire } from "node:module";
import { PassThrough, Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const modules = createRequire(`${process.argv[2]}/`);
const k8s = await import(pathToFileURL(modules.resolve("@kubernetes/client-node")));

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const namespace = "javascript";

async function refused(code, reason, promise) {
    const error = await promise.then(
        () => assert.fail(`not refused with ${code}`),
        (error) => error,
    );
    assert.equal(error.code, code, String(error));
    assert.equal(JSON.parse(error.body).reason, reason, error.body);
}

function timeout(what, promise) {
    let timer;
    const late = new Promise((_, fail) => {
        timer = setTimeout(() => fail(new Error(`no ${what} within 60 s`)), 60_000);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

await core.createNamespace({ body: { metadata: { name: namespace } } });

// A ConfigMap through create, each kind of patch, an old version, a list.
const made = await core.createNamespacedConfigMap({
    namespace,
    body: { metadata: { name: "settings", labels: { app: "js" } }, data: { a: "1" } },
});
assert.ok(made.metadata.creationTimestamp instanceof Date);
const patched = async (patchStrategy, body) =>
    (
        await core.patchNamespacedConfigMap(
            { name: "settings", namespace, body },
            k8s.setHeaderOptions("Content-Type", patchStrategy),
        )
    ).data;
const { PatchStrategy } = k8s;
assert.deepEqual(await patched(PatchStrategy.MergePatch, { data: { b: "2" } }), { a: "1", b: "2" });
assert.deepEqual(await patched(PatchStrategy.StrategicMergePatch, { data: { a: null } }), { b: "2" });
const add = [{ op: "add", path: "/data/c", value: "3" }];
assert.deepEqual(await patched(PatchStrategy.JsonPatch, add), { b: "2", c: "3" });
await refused(
    409,
    "Conflict",
    core.replaceNamespacedConfigMap({ name: "settings", namespace, body: made }),
);
await refused(404, "NotFound", core.readNamespacedConfigMap({ name: "nothing", namespace }));
const listed = await core.listNamespacedConfigMap({ namespace, labelSelector: "app=js" });
assert.deepEqual(listed.items.map((item) => item.metadata.name), ["settings"]);

// Server-side apply by two managers of objects whose type is not known beforehand.
const wanted = (data) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "applied", namespace },
    data,
});
const apply = (manager, data, force) =>
    objects.patch(wanted(data), undefined, undefined, manager, force, PatchStrategy.ServerSideApply);
await apply("one", { a: "1" });
const both = await apply("two", { b: "2" });
assert.deepEqual(both.data, { a: "1", b: "2" });
await refused(409, "Conflict", apply("two", { a: "9" }));
assert.deepEqual((await apply("two", { a: "9" }, true)).data, { a: "9" });

// A watch from where a list ended.
const events = [];
const watcher = new k8s.Watch(config);
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const from = { resourceVersion: listed.metadata.resourceVersion, labelSelector: "app=js" };
const three = new Promise((done, failed) => {
    watcher
        .watch(path, { ...from, allowWatchBookmarks: true }, (type, object) => {
            if (type !== "BOOKMARK") events.push(`${type} ${object.metadata.name}`);
            if (events.length === 3) done();
        }, failed)
        .catch(failed);
});
const body = { metadata: { name: "watched", labels: { app: "js" } } };
await core.createNamespacedConfigMap({ namespace, body });
await core.patchNamespacedConfigMap(
    { name: "watched", namespace, body: { data: { a: "1" } } },
    k8s.setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
);
await core.deleteNamespacedConfigMap({ name: "watched", namespace });
await timeout("events", three);
assert.deepEqual(events, ["ADDED watched", "MODIFIED watched", "DELETED watched"]);

// A pod that serves, found by an informer.
const labels = { app: "web" };
const container = {
    name: "main",
    image: "skiff.local/toolbox",
    args: ["http-echo", "--port", "8080"],
};
const counter = {
    name: "counter",
    image: "skiff.local/toolbox",
    args: ["count", "--every", "200", "--text", "line"],
};
const spec = { containers: [container, counter], terminationGracePeriodSeconds: 0 };
await apps.createNamespacedDeployment({
    namespace,
    body: {
        metadata: { name: "web" },
        spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
    },
});
const informer = k8s.makeInformer(
    config,
    `/api/v1/namespaces/${namespace}/pods`,
    () => core.listNamespacedPod({ namespace, labelSelector: "app=web" }),
    "app=web",
);
const running = new Promise((done, failed) => {
    const seen = (pod) => {
        const containers = pod.status?.containerStatuses ?? [];
        if (containers.length === 2 && containers.every(({ ready }) => ready)) done(pod.metadata.name);
    };
    informer.on("add", seen);
    informer.on("update", seen);
    informer.on("error", failed);
});
await informer.start();
const pod = await timeout("running pod", running);
await informer.stop();

// exec over WebSockets: output, input, exit codes.
async function exec(command, stdin) {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const said = { out: "", err: "" };
    out.on("data", (bytes) => (said.out += bytes));
    err.on("data", (bytes) => (said.err += bytes));
    const status = await timeout(
        "status of exec",
        new Promise((done, failed) => {
            new k8s.Exec(config)
                .exec(namespace, pod, "main", command, out, err, stdin, false, done)
                .catch(failed);
        }),
    );
    return { ...said, status };
}
const echo = await exec(["toolbox", "echo", "from", "inside"], null);
assert.equal(echo.out, "from inside\n");
assert.equal(echo.status.status, "Success");
const failed = await exec(["toolbox", "exit", "7"], null);
assert.equal(failed.status.reason, "NonZeroExitCode", JSON.stringify(failed));
assert.equal(failed.status.details.causes[0].message, "7");

// port-forward: an HTTP request through it.
const forwarder = new k8s.PortForward(config);
const server = net.createServer((socket) => {
    forwarder.portForward(namespace, pod, [8080], socket, null, socket).catch((error) => {
        socket.destroy(error);
    });
});
await new Promise((up) => server.listen(0, "127.0.0.1", up));
const answer = await timeout(
    "answer through the port-forward",
    new Promise((done, failed) => {
        let text = "";
        const socket = net.connect(server.address().port, "127.0.0.1", () => {
            socket.write("GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        });
        socket.on("data", (bytes) => {
            text += bytes;
            if (text.includes(pod)) done(text);
        });
        socket.on("error", failed);
    }),
);
assert.match(answer, /^HTTP\/1.1 200 OK/);
server.close();

// Logs, as they come.
const log = new PassThrough();
const line = new Promise((done) => log.once("data", (bytes) => done(String(bytes))));
await new k8s.Log(config).log(namespace, pod, "counter", log, { follow: true, tailLines: 1 });
assert.match(await timeout("line of log", line), /line/);

await core.deleteNamespace({ name: namespace });
console.log("the JavaScript client is content");
process.exit(0);
