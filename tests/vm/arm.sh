#!/bin/sh
# Shows skiff at work on ARM, in a machine that QEMU emulates. Run by hand; `./x test`
# does not need it.
#
#   ./x cross && cargo xtask dist out --profile dev --target aarch64-unknown-linux-gnu
#   tests/vm/arm.sh aarch64 out/v*/skiff-aarch64
#
# or `armv7` and armv7-unknown-linux-gnueabihf. A Debian kernel of that architecture boots;
# in it `skiff check` runs, a server starts, a pod runs under the default seccomp profile
# and answers through its Service, is adopted after `kill -9`, and nothing is left after
# `killall`. Each check prints PASS or FAIL; the exit code says whether all passed.
#
# Installs from Debian where missing: qemu-system-arm, kmod, cpio, e2fsprogs. Kernel and
# busybox of the other architecture are unpacked below target/vm, not installed. Takes
# three to ten minutes.
#
# QEMU=PROGRAM    an emulator of one's own; FIRMWARE=DIR its files
set -eu
architecture=${1:?aarch64 or armv7}
skiff=$(realpath "${2:?the binary}")
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
case $architecture in
    aarch64) qemu=qemu-system-aarch64 machine="-M virt -cpu cortex-a72" ;;
    # highmem=off: what is mapped beyond 4 GiB is not seen by every 32-bit kernel.
    armv7) qemu=qemu-system-arm machine="-M virt,highmem=off -cpu cortex-a15" ;;
    *) echo "aarch64 or armv7" >&2; exit 2 ;;
esac
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=
for pair in "${QEMU:-$qemu}=qemu-system-arm" modprobe=kmod cpio=cpio mke2fs=e2fsprogs; do
    command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

work=$("$root/tests/vm/kernel.sh" "$architecture" /init)
cd "$work"
kernel=$work/kernel
release=$(cat release)

rm -rf machine disk.img
# Its root: busybox and skiff, which are static.
mkdir -p machine/bin machine/dev machine/proc machine/sys machine/tmp machine/run \
    machine/etc machine/root machine/lib machine/usr/bin
cp -r "$kernel/lib/modules" machine/lib/
cp busybox/bin/busybox machine/bin/busybox
# Its names are those of any other of the same package.
for applet in sh mount mkdir cat cut grep sed head tail find sleep ls tr wc ps kill hostname ip \
    modprobe insmod uname date dmesg sync poweroff seq chmod id mknod free; do
    ln -s busybox "machine/bin/$applet"
done
ln -s bin machine/sbin
cp "$skiff" machine/usr/bin/skiff
ln -s skiff machine/usr/bin/kubectl
chmod +x machine/usr/bin/skiff
echo 'root:x:0:0:root:/root:/bin/sh' >machine/etc/passwd
echo 'root:x:0:' >machine/etc/group
echo 'nameserver 127.0.0.1' >machine/etc/resolv.conf
cp "$root/docs/examples/hello.yaml" machine/root/
cp "$root/tests/vm/arm-guest.sh" machine/init
chmod +x machine/init
truncate -s 3G disk.img
mke2fs -q -t ext4 -d machine disk.img

# The user network gives an address and a default route, and leads nowhere.
# shellcheck disable=SC2086 # the machine is several words
timeout "${VM_TIMEOUT:-1800}" "${QEMU:-$qemu}" ${FIRMWARE:+-L "$FIRMWARE"} $machine \
    -accel tcg,thread=multi -smp 2 -m 1536 \
    -kernel "$kernel/boot/vmlinuz-$release" -initrd boot.cpio \
    -append "console=ttyAMA0 quiet panic=-1" -nographic -nodefaults -serial stdio -no-reboot \
    -drive file=disk.img,format=raw,if=none,id=disk,cache=unsafe -device virtio-blk-device,drive=disk \
    -netdev user,id=net,restrict=on -device virtio-net-device,netdev=net \
    </dev/null | tee console.log
! grep -q '^FAIL' console.log && grep -q '^PASS: everything was looked at' console.log
