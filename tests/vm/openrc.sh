#!/bin/sh
# The installer and the service on a machine whose init is OpenRC, made of namespaces:
# this machine's files, with Debian's openrc over them. Run by hand, as root:
#
#   cargo build && cargo xtask dist OUT --binary target/debug/skiff --releases http://127.0.0.1:1
#   tests/vm/openrc.sh OUT
#
# OUT is a folder of releases. Needs apt-get (for openrc's packages, which are only
# unpacked), and unshare. Says "openrc: all went well" at the end.
set -eu
[ "$(id -u)" = 0 ] || { echo "root is needed to make a machine of namespaces" >&2; exit 1; }
out=$(realpath "${1:?a folder of releases}")
here=$(mktemp -d)
cgroup=/sys/fs/cgroup
[ ! -d /sys/fs/cgroup/unified ] || cgroup=/sys/fs/cgroup/unified
cgroup=$cgroup/skiff-openrc-$$
mkdir "$cgroup"
clean() {
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    rm -rf "$here"
}
trap clean EXIT
(cd "$here" && apt-get download openrc libeinfo1 librc1 >/dev/null 2>&1 &&
    for deb in *.deb; do dpkg-deb -x "$deb" debs; done)
mkdir "$here/box"

cat >"$here/boot" <<'BOOT'
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1/box"
cd "$1/box"
mkdir upper work root
cp -r "$1/debs" over
# Debian's merged /usr: the packages are older than it.
for dir in bin sbin lib; do
    [ ! -d "over/$dir" ] || { mkdir -p over/usr && cp -r "over/$dir" over/usr/ && rm -r "over/$dir"; }
done
cp -r "$2" over/srv
mount -t overlay overlay -o "lowerdir=over:/,upperdir=upper,workdir=work" root
cd root
mount -t proc proc proc
for dir in run tmp var/lib/skiff var/lib/kubelet; do
    mkdir -p "$dir"
    mount -t tmpfs tmpfs "$dir"
done
mount --rbind /dev dev
mount -t sysfs sysfs sys
if [ -d /sys/fs/cgroup/unified ]; then
    mount -t tmpfs tmpfs sys/fs/cgroup
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir "sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
    done
else
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
rm -rf usr/local/bin/skiff usr/local/bin/kubectl etc/skiff etc/runlevels
touch etc/insserv.conf
mkdir -p etc/runlevels/sysinit etc/runlevels/boot etc/runlevels/default etc/runlevels/shutdown
echo box >etc/hostname
hostname box
ip link set lo up
ip link add eth0 type veth peer name switch0
ip addr add 192.168.78.2/24 dev eth0
ip link set eth0 up
ip link set switch0 up
ip route add default via 192.168.78.254 dev eth0
pivot_root . mnt
umount -l /mnt
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/openrc
# What openrc-init does, without taking the terminal.
openrc sysinit && openrc boot && openrc default
exec sh -eux /srv/steps
BOOT

cat >"$here/steps" <<'STEPS'
fail() { echo "openrc: $*" >&2; cat /var/log/skiff.log >&2 || true; exit 1; }
until_works() { timeout 90 sh -c "until $1; do sleep 0.2; done" >/dev/null 2>&1 || fail "$1"; }
export KUBECONFIG=/etc/skiff/skiff.yaml
export INSTALL_SKIFF_AIRGAP_DIR=/srv/v1 INSTALL_SKIFF_SKIP_SIGNATURE=true
mkdir -p /etc/skiff
echo 'node-label: kind=box' >'/etc/skiff/one config.yaml'
touch /srv/before
# Installed, with a setting that has a space in its name and one in a variable.
SKIFF_NODE_NAME=cabin sh /srv/install.sh server --config '/etc/skiff/one config.yaml'
rc-service skiff status
rc-update show default | grep -q skiff || fail "it does not start at boot"
until_works "kubectl get node/cabin"
kubectl wait --for=condition=Ready node/cabin --timeout=60s
[ "$(kubectl get node/cabin -o 'jsonpath={.metadata.labels.kind}')" = box ] || fail "no label"
limit=$(sed -n 's/^Max open files *\([0-9]*\).*/\1/p' "/proc/$(pgrep -o -x skiff)/limits")
# Where root may not raise limits, it stays what it was.
[ "$limit" = 1048576 ] || [ "$(ulimit -Hn)" = "$limit" ] || fail "$limit open files"
kubectl create deployment web --image=skiff.local/toolbox -- toolbox sleep infinity
kubectl rollout status deployment/web --timeout=60s
id() { kubectl get pods -o 'jsonpath={.items[*].status.containerStatuses[*].containerID}'; }
before=$(id)
# A restart, and a death, leave the pods running.
rc-service skiff restart
until_works "kubectl get --raw /readyz"
pid=$(pgrep -o -x skiff)
kill -9 "$pid"
until_works "[ \"\$(pgrep -o -x skiff || echo $pid)\" != $pid ]"
until_works "kubectl get --raw /readyz"
kubectl wait --for=condition=Ready node/cabin --timeout=60s
[ "$(id)" = "$before" ] || fail "pods were started anew"
# The same again changes nothing; another program is put in place.
SKIFF_NODE_NAME=cabin sh /srv/install.sh server --config '/etc/skiff/one config.yaml' | grep -q "nothing has changed" ||
    fail "it restarted for nothing"
cp -r /srv/v1 /srv/v2
(cd /srv/v2 && printf x >>skiff-x86_64 && sha256sum skiff-x86_64 >SHA256SUMS)
skiff upgrade --airgap-dir /srv/v2 --skip-signature --yes
cmp /usr/local/bin/skiff /srv/v2/skiff-x86_64
until_works "kubectl get --raw /readyz"
kubectl wait --for=condition=Ready node/cabin --timeout=60s
[ "$(id)" = "$before" ] || fail "pods were started anew"
# One that can be asked for its version and nothing else gives way to the one of before.
cp -r /srv/v2 /srv/v3
(cd /srv/v3 && printf '#!/bin/sh\n[ $1 = --version ]\n' >skiff-x86_64 && sha256sum skiff-x86_64 >SHA256SUMS)
! skiff upgrade --airgap-dir /srv/v3 --skip-signature --yes 2>/srv/said || fail "it went well"
grep -q "does not start with the new program" /srv/said || fail "it says $(cat /srv/said)"
cmp /usr/local/bin/skiff /srv/v2/skiff-x86_64
until_works "kubectl get --raw /readyz"
kubectl wait --for=condition=Ready node/cabin --timeout=60s
[ "$(id)" = "$before" ] || fail "pods were started anew"
skiff uninstall --yes
left=$(find /etc /usr/local /var/log /root -xdev -newer /srv/before -type f -not -name '*.cache' -not -path '*/.kube/*')
[ -z "$left" ] || fail "left behind: $left"
! pgrep -x skiff || fail "it still runs"
echo "openrc: all went well"
STEPS

mkdir "$here/srv"
cp "$here/steps" "$out/install.sh" "$here/srv/"
for release in "$out"/v*; do cp -r "$release" "$here/srv/v1"; break; done
# Into the cgroup first: the namespace's root is where its maker was.
sh -c 'echo $$ >"$0/cgroup.procs" && exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh "$1/boot" "$1" "$1/srv"' \
    "$cgroup" "$here"
