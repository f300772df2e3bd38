#!/bin/sh
# Makes a virtual machine's parts: a Debian kernel, and a root of busybox, skiff and
# kubectl with the libraries they need. Everything below tests/vm and the harness that
# boots an x86_64 machine is made by this, and what of the harness boots an aarch64 one.
#
#   tests/vm/guest.sh DIR INIT [FILE=PATH...]
#
# In DIR there are then `disk.img`, an ext4 whose /init is INIT, `qemu`, which boots
# it with what is given to it besides: a drive of the id `disk`, memory, cards, -append,
# and `architecture`, its name.
# FILE lies in the machine as PATH, its libraries too. INIT is started with everything
# mounted, on cgroup v2, and all modules of the kernel at hand.
#
# Installs from Debian where missing: qemu-system-x86 or qemu-system-arm, busybox-static,
# kmod, cpio, e2fsprogs. Where qemu-utils came from backports, so must qemu-system-x86: add
# `bookworm-backports` to the sources and install it first. The kernel's package is
# unpacked, not installed.
#
# ARCH=aarch64    the machine's (default x86_64); it is emulated, and SKIFF must be a static
#                 binary of it, which is its kubectl too: `./x cross`, `cargo xtask dist`
# SKIFF=FILE      the binary (default target/debug/skiff); optimised ones boot faster
# KUBECTL=FILE    the client (default: that of PATH), 1.30 or newer
# ACCEL=kvm       when `qemu` is run, where the machine has it; else it is emulated
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:?the folder for what is made}
init=$(realpath "${2:?the first program of the machine}")
shift 2
architecture=${ARCH:-x86_64}
case $architecture in
    x86_64) qemu=qemu-system-x86_64 package=qemu-system-x86 bus=virtio_pci ;;
    aarch64) qemu=qemu-system-aarch64 package=qemu-system-arm bus=virtio_mmio
        : "${SKIFF:?a static binary for aarch64}" ;;
    *) echo "x86_64 or aarch64" >&2; exit 2 ;;
esac
skiff=${SKIFF:-$root/target/debug/skiff}
kubectl=${KUBECTL:-$(command -v kubectl)}
PATH=$PATH:/usr/sbin:/sbin

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=
for pair in "$qemu=$package" busybox=busybox-static modprobe=kmod cpio=cpio mke2fs=e2fsprogs; do
    command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# The kernel, for all machines, and a busybox that runs on it.
mkdir -p "$dir" "$root/target/vm"
dir=$(realpath "$dir")
if [ "$architecture" = x86_64 ]; then
    busybox=$(command -v busybox)
    release=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -n1)
    [ -n "$release" ] || { echo "no linux-image-cloud-amd64 is known here; apt-get update on Debian" >&2; exit 1; }
    kernel=$root/target/vm/kernel-$release
    if [ ! -d "$kernel" ]; then
        (
            cd "$root/target/vm"
            apt-get download -qq "linux-image-$release"
            rm -rf kernel.new
            dpkg-deb -x linux-image-"$release"_*.deb kernel.new
            depmod -b "$root/target/vm/kernel.new" "$release"
            mv kernel.new "$kernel"
        )
    fi
else
    other=$("$root/tests/vm/kernel.sh" "$architecture" /init)
    busybox=$other/busybox/bin/busybox
    release=$(cat "$other/release")
    kernel=$(realpath "$other/kernel")
fi

# What the kernel starts first: the few modules without which the disk is not seen.
boot=$dir/boot
rm -rf "$boot"
mkdir -p "$boot/bin" "$boot/dev" "$boot/new"
cp "$busybox" "$boot/bin/busybox"
load=
for module in $bus virtio_blk ext4; do
    for file in $(modprobe -d "$kernel" -S "$release" --show-depends $module | sed -n 's/^insmod //p'); do
        cp "$file" "$boot/"
        load="$load /$(basename "$file")"
    done
done
cat >"$boot/init" <<INIT
#!/bin/busybox sh
export PATH=/bin
for applet in mount insmod mkdir switch_root; do /bin/busybox ln -s busybox /bin/\$applet; done
mount -t devtmpfs dev /dev
for module in $load; do insmod \$module 2>/dev/null; done
mount -t ext4 /dev/vda /new
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs shm /new/dev/shm
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t tmpfs run /new/run
exec switch_root /new /init
INIT
ln -s /bin/busybox "$boot/bin/sh"
chmod +x "$boot/init"
(cd "$boot" && find . | cpio -o -H newc --quiet) >"$dir/boot.cpio"

# The machine's root.
machine=$dir/machine
rm -rf "$machine"
for folder in bin dev proc sys tmp run etc root lib lib64 usr/bin; do mkdir -p "$machine/$folder"; done
cp -r "$kernel/lib/modules" "$machine/lib/"
cp "$busybox" "$machine/bin/busybox"
# Its names are those of any other of the same package.
for applet in $(busybox --list | grep -vx busybox); do ln -s busybox "$machine/bin/$applet"; done
ln -s bin "$machine/sbin"
ln -s ../../bin/busybox "$machine/usr/bin/busybox"
# put FILE PATH
put() {
    mkdir -p "$machine$(dirname "$2")"
    cp -L "$1" "$machine$2"
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$machine$library" ] || { mkdir -p "$machine$(dirname "$library")" && cp -L "$library" "$machine$library"; }
    done
}
put "$skiff" /usr/bin/skiff
if [ "$architecture" = x86_64 ]; then put "$kubectl" /usr/bin/kubectl; else ln -s skiff "$machine/usr/bin/kubectl"; fi
for pair in "$@"; do put "${pair%%=*}" "${pair#*=}"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$machine/etc/passwd"
echo 'root:x:0:' >"$machine/etc/group"
echo 'nameserver 127.0.0.1' >"$machine/etc/resolv.conf"
cp "$init" "$machine/init"
chmod +x "$machine/init"
rm -f "$dir/disk.img"
truncate -s 2G "$dir/disk.img"
mke2fs -q -t ext4 -d "$machine" "$dir/disk.img"

case $architecture in
    x86_64) board="-M pc,hpet=on -bios /usr/share/qemu/qboot.rom -cpu max" disk=virtio-blk-pci ;;
    aarch64) board="-M virt -cpu cortex-a72" disk=virtio-blk-device ;;
esac
echo "$architecture" >"$dir/architecture"
cat >"$dir/qemu" <<QEMU
#!/bin/sh
exec $qemu $board \\
    -accel "\${ACCEL:-tcg,thread=multi}" -kernel "$kernel/boot/vmlinuz-$release" -initrd "$dir/boot.cpio" \\
    -display none -nodefaults -no-reboot -device $disk,drive=disk "\$@"
QEMU
chmod +x "$dir/qemu"
