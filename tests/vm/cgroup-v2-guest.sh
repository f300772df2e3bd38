#!/bin/busybox sh
# shellcheck shell=dash disable=SC2009
# PID 1 of the machine that cgroup-v2.sh boots: looks at everything, prints
# PASS and FAIL lines on the console, and switches off.
export PATH=/usr/bin:/bin HOME=/root KUBECONFIG=/etc/skiff/skiff.yaml
cgroup=/sys/fs/cgroup

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
# serve FLAG…
serve() {
    skiff server "$@" >>/root/server.log 2>&1 &
    server=$!
}
# anew FLAG…: another server, whose node is ready
anew() {
    kill $server
    wait $server
    serve "$@"
    check "server ready with: ${*:-nothing more}" eventually 120 ready
    # The Lease of before may still say so.
    check "its node" eventually 60 kubectl get node vm
    check "is ready" kubectl wait --for=condition=Ready node --all --timeout=60s
}
ready() { kubectl get --raw /readyz; }
# field OBJECT PATH
field() { kubectl get "$1" -o "jsonpath={$2}"; }
# pod NAME 'YAML of its container' 'YAML of its resources'
pod() {
    kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: $2, resources: $3}
YAML
}
# The cgroup of a pod; of its container: the one below that is not the shim's.
pod_cgroup() { find $cgroup -type d -name "*$(field "pod/$1" .metadata.uid)*" | head -n1; }
container_cgroup() { find "$(pod_cgroup "$1")" -mindepth 1 -type d -name "$(field "pod/$1" '.status.containerStatuses[0].containerID' | sed 's,.*//,,')" | head -n1; }
after() { sed -n "s/^$2 //p" "$1"; }
# With the program of the pods: Debian's static busybox resolves nothing here.
answers() { "$(find /var/lib/skiff -path '*/layers/*' -name toolbox -type f | head -n1)" get --timeout 5 "http://$1/" | grep "Hello from skiff"; }
gone() { [ -z "$(find $cgroup -path "*skiff*" -name "pod*-*" -type d)" ]; }

echo "controllers: $(cat $cgroup/cgroup.controllers)"
modprobe tun
for test in /tests/*; do
    [ -e "$test" ] || continue
    check "$test" timeout 900 "$test" --test-threads 2 --nocapture
    grep -E -A1 "^test result|skipped|panicked" /tmp/out | sed "s/^/    /"
done

case " $(cat /proc/cmdline) " in
    *" skiff.parts=programs "*)
        echo "PASS: everything was looked at (at $(seconds) s)"
        poweroff -f
        ;;
esac

serve
check "server ready" eventually 120 ready
registered() { kubectl get nodes -o name | grep node/; }
check "node registered" eventually 60 registered
check "node ready" kubectl wait --for=condition=Ready node --all --timeout=120s
cgroups() {
check "apply hello" kubectl apply -f /root/hello.yaml
check "hello runs" kubectl rollout status deployment/hello --timeout=180s
kubectl get pods -o wide
address=$(field service/hello .spec.clusterIP)
check "Service answers the node" eventually 20 answers "$address"
hello=$(kubectl get pods -l app=hello -o 'jsonpath={.items[0].metadata.name}')
kubectl exec "$hello" -- toolbox get http://hello.default.svc.cluster.local/ >/tmp/got 2>&1
check "exec, and Service by DNS from a pod" grep "Hello from skiff" /tmp/got
echo "    got: $(cat /tmp/got)"
kubectl exec "$hello" -- ls /sys/fs/cgroup >/tmp/got 2>&1
check "a container sees its own cgroup" grep memory.max /tmp/got
same "hello's memory.max" "$(cat "$(container_cgroup "$hello")/memory.max")" 33554432
same "hello's pod's memory.max" "$(cat "$(pod_cgroup "$hello")/memory.max")" 33554432
same "skiff's controllers" "$(cat $cgroup/skiff/cgroup.subtree_control)" "cpuset cpu io memory hugetlb pids"

pod busy "[stress, --cpu, '1', --time, '600']" "{limits: {cpu: 100m, memory: 64Mi}}"
check "busy runs" kubectl wait --for=condition=Ready pod/busy --timeout=90s
busy=$(container_cgroup busy)
same "cpu.max" "$(cat "$busy/cpu.max")" "10000 100000"
same "cpu.weight" "$(cat "$busy/cpu.weight")" 17
before=$(after "$busy/cpu.stat" usage_usec)
from=$(cut -d' ' -f1 /proc/uptime)
sleep 10
used=$(($(after "$busy/cpu.stat" usage_usec) - before))
echo "    CPU from $from s to $(cut -d' ' -f1 /proc/uptime) s: $used us; $(grep throttled "$busy/cpu.stat" | tr '\n' ' ')"
check "CPU quota holds" [ $used -gt 100000 -a $used -lt 2000000 ]
check "CPU throttled" [ "$(after "$busy/cpu.stat" nr_throttled)" -gt 10 ]
same "a shim keeps out of the container's cgroup" "$(wc -l <"$busy/cgroup.procs" | tr -d ' ')" 1
# skiff sets no limit of processes by itself; the controller is there for one.
same "pids.max" "$(cat "$busy/pids.max")" max
cat "$busy/pids.current" >"$busy/pids.max"
kubectl exec busy -- toolbox stress --cpu 4 --time 1 >/tmp/got 2>&1
check "no process beyond pids.max" [ $? -ne 0 -a "$(after "$busy/pids.events" max)" -gt 0 ]
sed 's/^/    /' /tmp/got
echo max >"$busy/pids.max"
check "exec with pids.max raised again" kubectl exec busy -- toolbox true
check "freeze" sh -c "echo 1 > $busy/cgroup.freeze; echo 0 > $busy/cgroup.freeze"

pod hungry "[stress, --mem, '64']" "{limits: {memory: 16Mi}}"
check "hungry is OOMKilled" kubectl wait --timeout=90s pod/hungry \
    "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled"
same "hungry's exit code" "$(field pod/hungry '.status.containerStatuses[0].state.terminated.exitCode')" 137

pod group "[sleep, infinity]" "{limits: {memory: 16Mi}}"
check "group runs" kubectl wait --for=condition=Ready pod/group --timeout=90s
kubectl exec group -- toolbox stress --mem 64 >/tmp/got 2>&1
check "a container dies of memory as a whole" kubectl wait --timeout=30s pod/group \
    "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled"

identity='{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}'
was=$(kubectl get pods -l app=hello -o "jsonpath=$identity")
kill -9 $server
wait $server
check "Service answers without the server" answers "$address"
serve
check "server ready again" eventually 120 ready
check "hello available again" kubectl rollout status deployment/hello --timeout=90s
check "exec in an adopted pod" eventually 20 kubectl exec "$hello" -- toolbox true
same "adopted pods" "$(kubectl get pods -l app=hello -o "jsonpath=$identity")" "$was"
check "Service answers" eventually 20 answers "$address"
check "logs of an adopted pod" kubectl logs "$hello"

check "delete" kubectl delete -f /root/hello.yaml --timeout=60s
check "delete pods" kubectl delete pod busy hungry group --timeout=60s
check "pods gone" kubectl wait --for=delete pod -l app=hello --timeout=60s
check "no cgroup of a pod is left" eventually 20 gone
find $cgroup/skiff -type d | sed 's/^/    /'
}

# crashing: a pod whose container fails and is started again
crashing() {
    kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: ['false']}
YAML
}
restarts() { field pod/crashing '.status.containerStatuses[0].restartCount'; }
restarted() { [ "$(restarts)" -gt "$1" ]; }
jobs_of() { kubectl get jobs -o name | grep -c "job.batch/$1-"; }
ran() { [ "$(jobs_of "$1")" = "$2" ]; }
set_clock() { date -s "@$(($(date +%s) + $1))" && date -u; }
# What must not change with the clock: since when the node is ready, who has leases
# and how often they changed hands.
steady() {
    kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].lastTransitionTime} {.spec.taints}{"\n"}{end}' &&
        kubectl get leases -A -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.holderIdentity} {.spec.leaseTransitions}{"\n"}{end}'
}
renewals() { kubectl get leases -n kube-node-lease -o 'jsonpath={.items[0].spec.renewTime}'; }
renewed() { [ "$(renewals)" != "$1" ]; }
token() { kubectl exec worker -- toolbox cat /var/run/secrets/kubernetes.io/serviceaccount/token; }
# claim NAME: a number in the pod's token
claim() {
    part=$(token | cut -d. -f2 | tr '_-' '/+')
    while [ $((${#part} % 4)) -ne 0 ]; do part="$part="; done
    echo "$part" | base64 -d | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}
token_is_good() { [ "$(claim nbf)" -le "$(date +%s)" ] && [ "$(claim exp)" -gt "$(date +%s)" ]; }
# held SECONDS: nothing flaps for so long, which is longer than a node may be silent
held() {
    was=$(renewals)
    sleep "$1"
    same "who has what after $1 s" "$(steady)" "$quiet" && check "leases are renewed" renewed "$was"
}

clock() {
    # By half a day and an hour: what is due by then comes at once.
    kubectl create cronjob tick --image=skiff.local/toolbox '--schedule=0 */12 * * *' -- toolbox echo tick
    pod worker "[sleep, infinity]" "{}"
    check "a worker runs" kubectl wait --for=condition=Ready pod/worker --timeout=90s
    check "one that crashes" crashing
    check "it is started again" eventually 60 restarted 1
    check "a CronJob waits" ran tick 0
    quiet=$(steady)
    echo "$quiet" | sed 's/^/    /'
    set_clock 46800
    check "a CronJob fires when the clock is set" eventually 30 ran tick 1
    check "the node is ready all the same" kubectl wait --for=condition=Ready node --all --timeout=60s
    set_clock -46800
    check "and when it is set back" kubectl wait --for=condition=Ready node --all --timeout=60s
    same "jobs of the CronJob" "$(jobs_of tick)" 1
    held 60

    # By three years: certificates and tokens end meanwhile.
    years=$((3 * 365 * 86400))
    set_clock $years
    check "the API answers with new certificates" eventually 30 ready
    check "one Job for all that was missed" eventually 30 ran tick 2
    check "a new token for the pod" eventually 60 token_is_good
    held 70
    n=$(restarts)
    set_clock -$years
    check "the API answers after it was set back" eventually 30 ready
    check "what crashes is started again" eventually 60 restarted "$n"
    check "the pod's token is good by now" eventually 90 token_is_good
    same "jobs of the CronJob, whose moments have passed" "$(jobs_of tick)" 2
    held 70
    check "a pod is made, and goes" kubectl delete pod crashing --timeout=60s
    kill $server
    wait $server
    serve
    check "server ready again after that" eventually 120 ready
    check "its node too" kubectl wait --for=condition=Ready node --all --timeout=60s
    check "delete the CronJob" kubectl delete cronjob tick --timeout=60s
    check "delete the worker" kubectl delete pod worker --timeout=60s
}

kilobytes() { sed -n "s/^$1: *\([0-9]*\) kB/\1/p" /proc/meminfo; }
# What is reserved is kept from pods by their common cgroup, though none has a limit.
allocatable() {
    total=$(kilobytes MemTotal)
    reserved=$((total - 300 * 1024))
    anew --system-reserved "cpu=500m,memory=${reserved}Ki"
    same "memory.max of all pods" "$(cat $cgroup/skiff/memory.max)" 314572800
    allocatable=$(field node/vm .status.allocatable.memory)
    echo "    allocatable: $allocatable, $(field node/vm .status.allocatable.cpu)"
    # What a hard threshold keeps free is not in it.
    same "allocatable memory" "$allocatable" 200Mi
    same "allocatable CPU" "$(field node/vm .status.allocatable.cpu)" 1500m
    # The weight of 1.5 CPU.
    same "cpu.weight of all pods" "$(cat $cgroup/skiff/cpu.weight)" 138
    pod modest "[stress, --mem, '100', --time, '600']" "{}"
    check "what fits runs" kubectl wait --for=condition=Ready pod/modest --timeout=90s
    pod greedy "[stress, --mem, '400', --time, '600']" "{}"
    check "what does not fit is OOMKilled" kubectl wait --timeout=120s pod/greedy \
        "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled"
    check "the server has not been" ready
    check "killed by the pods' cgroup" [ "$(after $cgroup/skiff/memory.events.local oom)" -gt 0 ]
    kubectl delete pod modest greedy --timeout=60s
    anew
}

# in_cgroup POD COMMAND…: as a process of its container would
in_cgroup() {
    group=$(container_cgroup "$1")
    shift
    sh -c 'echo $$ >'"$group"'/cgroup.procs && exec "$@"' sh "$@"
}
hugepages() {
    echo 32 >/proc/sys/vm/nr_hugepages
    anew
    same "huge pages of the node" "$(field node/vm '.status.capacity.hugepages-2Mi')" 64Mi
    memory=$(field node/vm .status.allocatable.memory)
    kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: pages, emptyDir: {medium: HugePages}}]
  containers:
  - name: c
    image: skiff.local/toolbox
    args: [sleep, infinity]
    resources: {limits: {memory: 32Mi, hugepages-2Mi: 8Mi}}
    volumeMounts: [{name: pages, mountPath: /pages}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: too-much}
spec:
  containers:
  - {name: c, image: skiff.local/toolbox, args: [sleep, infinity], resources: {limits: {memory: 32Mi, hugepages-2Mi: 128Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  nodeName: vm
  containers:
  - {name: c, image: skiff.local/toolbox, args: [sleep, infinity], resources: {limits: {memory: 32Mi, hugepages-2Mi: 66Mi}}}
YAML
    check "pods run" kubectl wait --for=condition=Ready pod/huge pod/plain --timeout=90s
    too_much() { kubectl get events | grep "Insufficient hugepages-2Mi"; }
    check "what asks for more than there is waits" eventually 30 too_much
    check "what names the node is refused" kubectl wait '--for=jsonpath={.status.phase}=Failed' pod/refused --timeout=60s
    same "its reason" "$(field pod/refused .status.reason)" OutOfhugepages-2Mi
    same "hugetlb.2MB.max" "$(cat "$(container_cgroup huge)/hugetlb.2MB.max")" 8388608
    same "of its pod" "$(cat "$(pod_cgroup huge)/hugetlb.2MB.max")" 8388608
    same "of a pod that asks for none" "$(cat "$(pod_cgroup plain)/hugetlb.2MB.max")" 0
    pages="/var/lib/kubelet/pods/$(field pod/huge .metadata.uid)/volumes/kubernetes.io~empty-dir/pages"
    same "the volume" "$(grep " $pages " /proc/mounts | cut -d' ' -f3)" hugetlbfs
    check "what is granted can be had" in_cgroup huge fallocate -l 8388608 "$pages/a"
    same "hugetlb.2MB.current" "$(cat "$(container_cgroup huge)/hugetlb.2MB.current")" 8388608
    in_cgroup huge fallocate -l 2097152 "$pages/b" >/tmp/got 2>&1
    check "and no more" [ $? -ne 0 -a "$(after "$(container_cgroup huge)/hugetlb.2MB.events" max)" -gt 0 ]
    sed 's/^/    /' /tmp/got
    in_cgroup plain fallocate -l 2097152 "$pages/c" >/tmp/got 2>&1
    check "nothing where nothing was asked for" [ $? -ne 0 ]
    check "the pod sees the file" kubectl exec huge -- toolbox test -f /pages/a
    kubectl delete pod huge plain too-much refused --timeout=60s
    same "huge pages are free again" "$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)" 32
    echo 0 >/proc/sys/vm/nr_hugepages
    anew
    same "none are left" "$(field node/vm '.status.capacity.hugepages-2Mi')" 0
    more() { [ "$(field node/vm .status.allocatable.memory | tr -d Ki)" -gt "$(echo "$memory" | tr -d Ki)" ]; }
    check "and pods may have the memory" eventually 30 more
}

# local_volume NAME MODE PATH: a volume on this node and a pod that uses it
local_volume() {
    case $2 in
        Block) use="volumeDevices: [{name: v, devicePath: /dev/v}]" ;;
        *) use="volumeMounts: [{name: v, mountPath: /v}]" ;;
    esac
    kubectl apply -f - <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec:
  capacity: {storage: 16Mi}
  accessModes: [ReadWriteOnce]
  volumeMode: $2
  storageClassName: ""
  $3
  claimRef: {namespace: default, name: $1}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [vm]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: $2
  storageClassName: ""
  volumeName: $1
  resources: {requests: {storage: 16Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, persistentVolumeClaim: {claimName: $1}}]
  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity], $use}]
YAML
    check "$1 runs" kubectl wait --for=condition=Ready "pod/$1" --timeout=90s
}
no_volume() {
    kubectl delete "pod/$1" "pvc/$1" "pv/$1" --timeout=60s
}
block() {
    modprobe loop
    dd if=/dev/zero of=/root/disk bs=1M count=16 2>/dev/null
    losetup /dev/loop0 /root/disk
    echo "from the host" | dd of=/dev/loop0 conv=notrunc 2>/dev/null
    sync
    local_volume raw Block "local: {path: /dev/loop0}"
    kubectl exec raw -- toolbox cat /dev/v >/tmp/got
    same "bytes of the device" "$(wc -c </tmp/got | tr -d ' ')" 16777216
    same "what the host wrote" "$(head -n1 /tmp/got)" "from the host"
    check "a pod writes to it" kubectl exec raw -- toolbox write /dev/v "from the pod"
    sync
    same "and the host reads it" "$(head -c 12 /root/disk)" "from the pod"
    check "other devices are not the pod's" [ -z "$(kubectl exec raw -- toolbox ls /dev | grep loop)" ]
    no_volume raw
    # The same device with a file system.
    check "a file system" mke2fs -q /dev/loop0
    local_volume files Filesystem "local: {path: /dev/loop0, fsType: ext2}"
    check "a pod writes a file" kubectl exec files -- toolbox write /v/hello "in a file"
    no_volume files
    same "nothing is mounted" "$(grep -c loop0 /proc/mounts)" 0
    mkdir -p /mnt && mount -t ext2 /dev/loop0 /mnt
    same "the file is there" "$(cat /mnt/hello)" "in a file"
    umount /mnt
    losetup -d /dev/loop0
}

# A server of NFS in the kernel, version 4 alone: it needs neither rpcbind nor statd.
nfs() {
    modprobe nfsd && modprobe nfsv4
    mkdir -p /srv/share /var/lib/nfs/v4recovery
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 'nfs 2049/tcp' >/etc/services
    echo '/srv/share *(rw,no_root_squash,insecure,no_subtree_check,fsid=0)' >/etc/exports
    # Nobody had files open before.
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    check "exportfs" exportfs -ra
    check "rpc.mountd" rpc.mountd -N 3
    check "rpc.nfsd" rpc.nfsd -N 3 -V 4.2 2
    echo "from the server" >/srv/share/hello
    local_volume share Filesystem "nfs: {server: 10.0.2.15, path: /}"
    same "the volume" "$(grep ' /var/lib/kubelet/.*nfs' /proc/mounts | cut -d' ' -f1,3)" "10.0.2.15:/ nfs4"
    check "a pod reads the server's file" kubectl exec share -- toolbox cat /v/hello
    check "and writes one" kubectl exec share -- toolbox write /v/answer "from the pod"
    same "which the server has" "$(cat /srv/share/answer)" "from the pod"
    uid=$(field pod/share .metadata.uid)
    no_volume share
    same "the mount is gone" "$(grep -c "$uid" /proc/mounts)" 0
    same "and the files are not" "$(cat /srv/share/answer)" "from the pod"
    rpc.nfsd 0
    killall rpc.mountd
    umount /proc/fs/nfsd
}

# in_b COMMAND…: on a second machine, which is a network and mounts of its own
in_b() { nsenter -t "$b" -n -m -u "$@"; }
join() {
    # shellcheck disable=SC2086 # its flags
    nsenter -t "$b" -n -m -u skiff agent --node-name b --data-dir /root/b $1 >>/root/agent.log 2>&1 &
    agent=$!
}
address() { field "pod/$1" .status.podIP; }
# on NODE NAME: a pod there that says which it is
on() {
    kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $2, labels: {app: talks}}
spec:
  nodeName: $1
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: skiff.local/toolbox
    args: [http-echo, --port, '8080', --text, Hello from skiff on $2]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
YAML
}
says() { kubectl exec "$1" -- toolbox get --timeout 5 "$2" | grep "on $3"; }
sealed_bytes() { sed -n 's/^ *skiff-wg: *\([0-9]*\).*/\1/p' /proc/net/dev; }

# The kernel's WireGuard between two nodes.
wireguard() {
    anew --pod-network wireguard
    check "the kernel has WireGuard" sh -c "skiff check --pod-network wireguard | grep 'the kernel encrypts'"
    unshare -n -m -u sleep 100000 &
    b=$!
    # Before that it is still in the network, and has the name, of this machine.
    apart() { [ "$(readlink /proc/$b/ns/mnt)" != "$(readlink /proc/$$/ns/mnt)" ]; }
    check "a second machine" eventually 10 apart
    in_b hostname b
    ip link add wire type veth
    ip link set veth0 netns $b
    ip addr add 192.0.2.1/24 dev wire
    ip link set wire up
    in_b ip link set lo up
    in_b ip link set veth0 up
    in_b ip addr add 192.0.2.2/24 dev veth0
    in_b ip route add default via 192.0.2.1
    join "--server https://10.0.2.15:6443 --token $(skiff token create)"
    node_b() { kubectl get node b; }
    check "the second node registers" eventually 120 node_b
    check "it is ready" kubectl wait --for=condition=Ready node/b --timeout=120s
    on "$(kubectl get nodes -o name | grep -v 'node/b$' | cut -d/ -f2)" first
    on b second
    check "pods run" kubectl wait --for=condition=Ready pod -l app=talks --timeout=120s
    skiff status >/tmp/got
    check "status says so" grep -x "Network  WireGuard on 2 of 2 nodes" /tmp/got
    second=$(address second)
    check "a pod reaches one on the other node" eventually 30 says first "http://$second:8080/" second
    check "and the other way round" eventually 30 says second "http://$(address first):8080/" first
    check "through the device" [ "$(sealed_bytes)" -gt 0 ]
    same "the MTU of pods" "$(kubectl exec first -- toolbox cat /sys/class/net/eth0/mtu)" 1440
    kill -9 $server $agent
    wait $server $agent
    check "without server and agent it goes on" answers "$second:8080"
    serve --pod-network wireguard
    join ""
    check "server ready again" eventually 120 ready
    check "the second node too" kubectl wait --for=condition=Ready node/b --timeout=120s
    check "pods talk" eventually 60 says first "http://$second:8080/" second
    # Another key for the second node, while it is in use.
    key() { kubectl get node b -o 'jsonpath={.metadata.annotations.skiff\.sh/wireguard-key}'; }
    was=$(key)
    kill $agent
    wait $agent
    rm /root/b/node/wireguard.key
    join ""
    other_key() { [ "$(key)" != "$was" ]; }
    check "a new key is told" eventually 60 other_key
    check "and followed" eventually 60 says first "http://$second:8080/" second
    check "delete the pods" kubectl delete pod first second --timeout=60s
    kill $agent
    wait $agent
    check "killall on the second" in_b skiff killall --data-dir /root/b
    check "its device is gone" sh -c "! nsenter -t $b -n ip link show skiff-wg"
    check "delete its node" kubectl delete node b --timeout=60s
    no_device() { ! ip link show skiff-wg 2>/dev/null; }
    check "nobody is left to reach by it" eventually 20 no_device
    kill $b
    ip link del wire
    anew
    if [ -n "$bad" ]; then tail -n 40 /root/agent.log; fi
}

# Each is one of PARTS; clock, which takes longest, comes last.
for part in cgroups allocatable hugepages block nfs wireguard clock; do
    case " $(cat /proc/cmdline) " in
        *" skiff.parts=all "* | *[=,]"$part "* | *[=,]"$part,"*) "$part" ;;
    esac
done

pod left "[sleep, infinity]" "{}"
check "one more runs" kubectl wait --for=condition=Ready pod/left --timeout=90s
kill $server
wait $server
same "server ends" $? 0
check "its pod runs on" [ -n "$(cat "$(find $cgroup/skiff -type d -path '*pod*-*' | tail -n1)/cgroup.procs")" ]
check "killall" skiff killall
same "cgroups left" "$(find $cgroup -name '*skiff*')" ""
same "mounts left" "$(grep -c skiff /proc/mounts)" 0
same "processes left" "$(ps | grep "[s]kiff server\|[s]kiff.*shim")" ""
if [ -n "$bad" ]; then
    echo "--- the server's log"
    grep -v '^$' /root/server.log | tail -n 60
    dmesg | grep -iE "oom|cgroup|bpf" | tail -n 10
fi
echo "PASS: everything was looked at (at $(seconds) s)"
sync
poweroff -f
