#!/bin/sh
# Gets what an emulated machine boots: Debian's newest kernel for an architecture, unpacked
# and not installed, and what that starts first, which mounts a disk and starts its INIT.
#
#   tests/vm/kernel.sh x86_64|aarch64|armv7 INIT
#
# Prints a folder of target/vm; in it are then `boot.cpio`, `kernel`, a link to the kernel's
# package, `release`, its version, `apt.conf`, an apt that knows nothing of this machine's
# packages, and `busybox`. Needs kmod, cpio and the network, once.
set -eu
init=${2:?the first program of the machine}
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
case ${1:-} in
    x86_64) deb=amd64 image=linux-image-cloud-amd64 bus=virtio_pci ;;
    aarch64) deb=arm64 image=linux-image-cloud-arm64 bus=virtio_mmio ;;
    armv7) deb=armhf image=linux-image-armmp-lpae bus=virtio_mmio ;;
    *) echo "x86_64, aarch64 or armv7" >&2; exit 2 ;;
esac
work=$root/target/vm/$1
mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
cd "$work"

cat >apt.conf <<CONF
APT::Architecture "$deb";
APT::Architectures { "$deb"; };
Dir::State "$work/apt/state";
Dir::State::status "/dev/null";
Dir::Cache "$work/apt/cache";
CONF
export APT_CONFIG="$work/apt.conf"
if ! [ -e busybox/bin/busybox ]; then
    # What cannot be had is told by what is missing then.
    apt-get update -qq >&2 || true
    apt-get download -qq busybox-static >&2
    dpkg-deb -x busybox-static_*.deb busybox
fi
release=$(apt-cache depends "$image" | sed -n 's/.*Depends: linux-image-//p' | head -n1)
[ -n "$release" ] || { echo "no $image is known for $deb" >&2; exit 1; }
if [ ! -d "kernel-$release" ]; then
    apt-get download -qq "linux-image-$release" >&2
    dpkg-deb -x linux-image-"$release"_*.deb "kernel-$release"
    depmod -b "$work/kernel-$release" "$release"
fi
ln -sfn "kernel-$release" kernel
echo "$release" >release

# The few modules without which the disk is not seen.
rm -rf boot
mkdir -p boot/bin boot/dev boot/proc boot/new
cp busybox/bin/busybox boot/bin/busybox
load=
for module in "$bus" virtio_blk ext4; do
    for file in $(modprobe -d "$work/kernel" -S "$release" --show-depends "$module" | sed -n 's/^insmod //p'); do
        cp "$file" boot/
        load="$load /$(basename "$file")"
    done
done
cat >boot/init <<INIT
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $load; do /bin/busybox insmod \$module 2>/dev/null; done
/bin/busybox mount -t ext4 /dev/vda /new
exec /bin/busybox switch_root /new $init
INIT
ln -s /bin/busybox boot/bin/sh
chmod +x boot/init
(cd boot && find . | cpio -o -H newc --quiet) >boot.cpio
echo "$work"
