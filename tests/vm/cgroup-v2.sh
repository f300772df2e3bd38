#!/bin/sh
# Shows skiff at work on cgroup v2, in a virtual machine: for machines whose own
# kernel has only v1. Run by hand; `./x test` does not need it.
#
#   tests/vm/cgroup-v2.sh [TEST-PROGRAM...]
#
# A Debian kernel boots in QEMU without KVM, with one unified cgroup tree. In it
# a server starts, a stock kubectl applies docs/examples/hello.yaml, and the
# cgroup files of its pods are looked at: limits of memory, CPU and processes,
# an OOM kill, adoption after `kill -9`, and nothing left after `killall`; and the
# clock is set by hours and by years, and back, which the machine of other tests
# would not bear. Each
# check prints PASS or FAIL; the exit code says whether all passed. Programs
# given as arguments (built tests of `linux` or `node-runtime`) run in the
# machine too, as root.
#
# Installs from Debian where missing: qemu-system-x86, busybox-static, kmod,
# cpio, e2fsprogs. Where qemu-utils came from backports, so must
# qemu-system-x86: add `bookworm-backports` to the sources and install it first.
# The kernel's package is unpacked, not installed. Takes one to
# three minutes on two cores, and 1 GB below target/vm.
#
# SKIFF=FILE      the binary (default target/debug/skiff); optimised ones boot faster
# KUBECTL=FILE    the client (default: that of PATH), 1.30 or newer
# PARTS=cgroups   only that; or clock, which takes seven minutes more than that
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/vm
skiff=${SKIFF:-$root/target/debug/skiff}
kubectl=${KUBECTL:-$(command -v kubectl)}
PATH=$PATH:/usr/sbin:/sbin

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=
for pair in qemu-system-x86_64=qemu-system-x86 busybox=busybox-static modprobe=kmod cpio=cpio mke2fs=e2fsprogs; do
    command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
mkdir -p "$work"
cd "$work"

# The kernel, and the few modules without which its disk is not seen.
release=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -n1)
[ -n "$release" ] || { echo "no linux-image-cloud-amd64 is known here; apt-get update on Debian" >&2; exit 1; }
if [ ! -d "kernel-$release" ]; then
    apt-get download -qq "linux-image-$release"
    dpkg-deb -x linux-image-"$release"_*.deb "kernel-$release"
    depmod -b "$work/kernel-$release" "$release"
fi
kernel=$work/kernel-$release
rm -rf boot
mkdir -p boot/bin boot/dev boot/proc boot/new
cp "$(command -v busybox)" boot/bin/busybox
load=
for module in virtio_pci virtio_blk ext4; do
    for file in $(modprobe -d "$kernel" -S "$release" --show-depends $module | sed -n 's/^insmod //p'); do
        cp "$file" boot/
        load="$load /$(basename "$file")"
    done
done
cat >boot/init <<INIT
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $load; do /bin/busybox insmod \$module 2>/dev/null; done
/bin/busybox mount -t ext4 /dev/vda /new
exec /bin/busybox switch_root /new /init
INIT
ln -s /bin/busybox boot/bin/sh
chmod +x boot/init
(cd boot && find . | cpio -o -H newc --quiet) >boot.cpio

# The machine's root: busybox, skiff, kubectl and the libraries they need.
rm -rf machine
mkdir -p machine/bin machine/dev machine/proc machine/sys machine/tmp machine/run \
    machine/etc machine/root machine/tests machine/lib machine/lib64 machine/usr/bin
cp -r "$kernel/lib/modules" machine/lib/
cp "$(command -v busybox)" machine/bin/busybox
for applet in $(busybox --list | grep -vx busybox); do ln -s busybox "machine/bin/$applet"; done
ln -s bin machine/sbin
ln -s ../../bin/busybox machine/usr/bin/busybox
cp "$skiff" machine/usr/bin/skiff
cp "$kubectl" machine/usr/bin/kubectl
cp "$root/docs/examples/hello.yaml" machine/root/
for program in "$@"; do cp "$program" machine/tests/; done
for program in "$skiff" "$kubectl" "$@"; do
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true
done | sort -u | while read -r library; do
    mkdir -p "machine$(dirname "$library")"
    cp -L "$library" "machine$library"
done
echo 'root:x:0:0:root:/root:/bin/sh' >machine/etc/passwd
echo 'root:x:0:' >machine/etc/group
echo 'nameserver 127.0.0.1' >machine/etc/resolv.conf
cp "$root/tests/vm/cgroup-v2-guest.sh" machine/init
chmod +x machine/init
rm -f disk.img
truncate -s 2G disk.img
mke2fs -q -t ext4 -d machine disk.img

# The user network gives an address and a default route, and leads nowhere.
timeout "${VM_TIMEOUT:-1800}" qemu-system-x86_64 -M pc,hpet=on -bios /usr/share/qemu/qboot.rom \
    -accel tcg,thread=multi -cpu max -smp 2 -m 1536 \
    -kernel "$kernel/boot/vmlinuz-$release" -initrd boot.cpio \
    -append "console=ttyS0 quiet panic=-1 skiff.parts=${PARTS:-all}" -nographic -nodefaults -serial stdio -no-reboot \
    -drive file=disk.img,format=raw,if=none,id=disk,cache=unsafe -device virtio-blk-pci,drive=disk \
    -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,romfile= \
    </dev/null | tee console.log
! grep -q '^FAIL' console.log && grep -q '^PASS: everything was looked at' console.log
