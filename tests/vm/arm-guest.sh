#!/bin/busybox sh
# shellcheck shell=dash disable=SC2009
# PID 1 of the machine that arm.sh boots: prints PASS and FAIL lines on the console, and
# switches off.
export PATH=/usr/bin:/bin HOME=/root KUBECONFIG=/etc/skiff/skiff.yaml
cgroup=/sys/fs/cgroup

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 $cgroup
mount -t tmpfs run /run
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
exec </dev/null >/dev/console 2>&1
modprobe virtio_net
hostname vm
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

seconds() { cut -d. -f1 /proc/uptime; }
failed() {
    echo "FAIL: $* (at $(seconds) s)"
    bad=yes
}
# check WHAT COMMAND…: passes where the command does.
check() {
    what=$1
    shift
    if "$@" >/tmp/out 2>&1; then echo "PASS: $what (at $(seconds) s)"; else
        failed "$what"
        tail -n 20 /tmp/out | sed 's/^/    /'
    fi
}
# same WHAT GOT WANTED
same() {
    if [ "$2" = "$3" ]; then echo "PASS: $1: $2 (at $(seconds) s)"; else failed "$1: $2, not $3"; fi
}
# eventually SECONDS COMMAND…
eventually() {
    left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 1
    done
}
serve() {
    skiff server >>/root/server.log 2>&1 &
    server=$!
}
ready() { kubectl get --raw /readyz; }
field() { kubectl get "$1" -o "jsonpath={$2}"; }
registered() { kubectl get nodes -o name | grep node/; }
answers() { "$(find /var/lib/skiff -path '*/layers/*' -name toolbox -type f | head -n1)" get --timeout 10 "http://$1/" | grep "Hello from skiff"; }

uname -a
echo "controllers: $(cat $cgroup/cgroup.controllers)"
check "version" skiff --version
check "help" skiff --help
skiff check >/tmp/out 2>&1
same "skiff check" $? 0
sed 's/^/    /' /tmp/out
serve
check "server ready" eventually 300 ready
check "node registered" eventually 120 registered
check "node ready" kubectl wait --for=condition=Ready node --all --timeout=300s
same "its architecture" "$(field node/vm .status.nodeInfo.architecture)" \
    "$(case $(uname -m) in aarch64) echo arm64 ;; *) echo arm ;; esac)"
free | sed 's/^/    /'
grep -E 'VmRSS|VmHWM' /proc/$server/status | sed 's/^/    /'
check "apply hello" kubectl apply -f /root/hello.yaml
check "hello runs" kubectl rollout status deployment/hello --timeout=300s
kubectl get pods -o wide
address=$(field service/hello .spec.clusterIP)
check "Service answers the node" eventually 60 answers "$address"
hello=$(kubectl get pods -l app=hello -o 'jsonpath={.items[0].metadata.name}')
kubectl exec "$hello" -- toolbox get http://hello.default.svc.cluster.local/ >/tmp/got 2>&1
check "exec, and Service by DNS from a pod" grep "Hello from skiff" /tmp/got
sed 's/^/    /' /tmp/got

kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: filtered}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {seccompProfile: {type: RuntimeDefault}}
  containers:
  - {name: c, image: skiff.local/toolbox, args: [sleep, infinity], resources: {limits: {memory: 32Mi, cpu: 200m}}}
YAML
check "a pod under the default seccomp profile runs" kubectl wait --for=condition=Ready pod/filtered --timeout=180s
same "its seccomp mode" "$(kubectl exec filtered -- toolbox cat /proc/self/status | sed -n 's/^Seccomp:[^0-9]*//p')" 2
uid=$(field pod/filtered .metadata.uid)
same "its memory.max" "$(cat "$(find $cgroup -type d -name "*$uid*" | head -n1)/memory.max")" 33554432

was=$(kubectl get pods -o 'jsonpath={.items[*].status.containerStatuses[*].containerID}')
kill -9 $server
wait $server
check "Service answers without the server" answers "$address"
serve
check "server ready again" eventually 300 ready
check "hello available again" kubectl rollout status deployment/hello --timeout=180s
same "adopted pods" "$(kubectl get pods -o 'jsonpath={.items[*].status.containerStatuses[*].containerID}')" "$was"
check "logs of an adopted pod" kubectl logs "$hello"
kill $server
wait $server
same "server ends" $? 0
check "killall" skiff killall
same "cgroups left" "$(find $cgroup -name '*skiff*')" ""
same "mounts left" "$(grep -c skiff /proc/mounts)" 0
if [ -n "$bad" ]; then
    echo "--- the server's log"
    grep -v '^$' /root/server.log | tail -n 80
    dmesg | grep -iE "oom|seccomp|segfault|audit" | tail -n 10
fi
echo "PASS: everything was looked at (at $(seconds) s)"
sync
poweroff -f
