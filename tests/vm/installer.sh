#!/bin/sh
# Installs, joins, upgrades, reboots and removes skiff as its users do, on virtual machines
# with Debian's systemd. Run by hand; the namespace variant (tests/stories/installer.rs and
# upgrade.rs) is what `./x test` runs.
#
#   cargo xtask dist OUT --key KEY.pem --releases http://10.77.0.1:8000
#   tests/vm/installer.sh OUT KEY.pem [x86_64|aarch64]
#
# `server` serves the releases of OUT to both machines and installs by `curl | sh`; `agent`
# joins it by the same line with SKIFF_URL and SKIFF_TOKEN. Pods run on both and are asked
# all the time while the next build comes by the installer, and the one after it by
# `skiff upgrade --cluster`; then both reboot, and in the end skiff is removed and what is
# there, files and kernel, is compared with what was there before. The next builds are the
# same one, that calls itself otherwise. On aarch64 (`--target` at `dist`) it is the server
# alone.
#
# Each check prints PASS or FAIL; the exit code says whether all passed. Installs from Debian
# where missing: mmdebstrap, kmod, cpio, e2fsprogs, openssl and QEMU. Takes five to twenty minutes
# on a quiet machine. On a busy one (load 9 on two cores) it took half an hour, and requests
# failed during the upgrades; whether that was the load or skiff is not known yet.
#
# QEMU=PROGRAM    an emulator of one's own; FIRMWARE=DIR its files
# ACCEL=kvm       where the machine has it; else the processors are emulated
set -eu
out=$(realpath "${1:?a folder that cargo xtask dist made}")
key=$(realpath "${2:?the key that its release was signed with}")
architecture=${3:-x86_64}
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
case $architecture in
    x86_64) deb=amd64 qemu=qemu-system-x86_64 package=qemu-system-x86 bus=pci rom=romfile=, console=ttyS0
        # Emulated beside other work its timers are late, which is no reason to stop.
        machine="-M pc,hpet=on -bios /usr/share/qemu/qboot.rom -cpu max" kernel=no_timer_check
        machines="server agent" ;;
    aarch64) deb=arm64 qemu=qemu-system-aarch64 package=qemu-system-arm bus=device rom='' console=ttyAMA0
        machine="-M virt -cpu cortex-a72" kernel='' machines=server ;;
    *) echo "x86_64 or aarch64" >&2; exit 2 ;;
esac

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=
for pair in "${QEMU:-$qemu}=$package" mmdebstrap=mmdebstrap modprobe=kmod cpio=cpio mke2fs=e2fsprogs openssl=openssl; do
    command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

boot=$("$root/tests/vm/kernel.sh" "$architecture" /lib/systemd/systemd)
work=$root/target/vm/installer-$architecture
mkdir -p "$work"
cd "$work"
rm -rf system releases ./*.img ./*.log link

# Debian's programs as they are in its packages. No package is set up, since nothing of
# another architecture runs here; what systemd needs beside is made by hand.
if ! [ -e system.tar ]; then
    mmdebstrap --quiet --variant=extract --architectures="$deb" --aptopt='APT::Install-Recommends "false"' \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=systemd,base-files,base-passwd,libc-bin,bash,dash,coreutils,sed,grep,mawk,diffutils,findutils,hostname,util-linux,mount,procps,iproute2,kmod,curl,openssl,nftables,busybox-static \
        bookworm new.tar
    mv new.tar system.tar
fi
mkdir system
as_root tar -C system -xf system.tar --exclude='./dev/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*'
as_root sh -s "$boot" "$root/tests/vm/installer-guest.sh" "$root/docs/examples/hello.yaml" <<'MAKE'
set -eu
cd system
cp -r "$1/kernel/lib/modules" usr/lib/
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
ln -s mawk usr/bin/awk
rm -f etc/resolv.conf etc/fstab etc/hostname
echo 'nameserver 127.0.0.1' >etc/resolv.conf
: >etc/machine-id
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
cp "$2" usr/sbin/story
chmod 755 usr/sbin/story
cp "$3" root/hello.yaml
# As base-files has it, once it is set up.
mkdir -p usr/local/bin
mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/system/network-online.target.wants
cat >etc/systemd/system/link.service <<UNIT
[Unit]
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/story link
UNIT
cat >etc/systemd/system/story.service <<UNIT
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=idle
ExecStart=/usr/sbin/story tell
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
UNIT
ln -s ../link.service etc/systemd/system/network-online.target.wants/
ln -s ../story.service etc/systemd/system/multi-user.target.wants/
MAKE

# The release, and two more that are the same program under other names.
mkdir releases
cp -r "$out/install.sh" "$out/channels" releases/
release=$(cat "$out/channels/stable")
cp -r "$out/$release" releases/
for next in 2 3; do
    to=${release%?}$next
    cp -r "$out/$release" "releases/$to"
    (
        cd "releases/$to"
        sed -i "s/$release/$to/g" "skiff-$architecture"
        mv "skiff-$release.cdx.json" "skiff-$to.cdx.json"
        gzip -n9kf "skiff-$architecture"
        sha256sum "skiff-$architecture" "skiff-$architecture.gz" "skiff-$to.cdx.json" >SHA256SUMS
        openssl dgst -sha256 -sign "$key" -out SHA256SUMS.sig SHA256SUMS
    )
done

disk() {
    truncate -s 3G "$1.img"
    as_root mke2fs -q -t ext4 -d system "$1.img"
}
for name in $machines; do
    [ "$name" = server ] && as_root mkdir -p system/srv && as_root cp -r releases system/srv/
    disk "$name"
    as_root rm -rf system/srv/releases
done
as_root rm -rf system

# start NAME NETDEV: their cable is a socket.
start() {
    # shellcheck disable=SC2086 # the machine is several words
    timeout "${VM_TIMEOUT:-3000}" "${QEMU:-$qemu}" ${FIRMWARE:+-L "$FIRMWARE"} $machine \
        -accel "${ACCEL:-tcg,thread=multi}" -smp 2 -m 1536 \
        -kernel "$boot/kernel/boot/vmlinuz-$(cat "$boot/release")" -initrd "$boot/boot.cpio" \
        -append "console=$console quiet $kernel panic=10 systemd.hostname=$1 systemd.show_status=0 skiff.machines=$(echo "$machines" | wc -w)" \
        -display none -nodefaults -serial stdio \
        -drive "file=$1.img,format=raw,if=none,id=disk,cache=unsafe" -device "virtio-blk-$bus,drive=disk" \
        -netdev "$2" -device "virtio-net-$bus,netdev=net,${rom}mac=02:00:00:00:77:$3" \
        </dev/null 2>&1 | tee "$1.log" | sed -u "s/^/$1: /"
}
case $machines in
    *agent*)
        start server "stream,id=net,server=on,addr.type=unix,addr.path=link" 01 &
        until [ -S link ]; do sleep 0.2; done
        start agent "stream,id=net,server=off,addr.type=unix,addr.path=link" 02 &
        wait
        ;;
    *) start server "user,id=net,restrict=on" 01 ;;
esac
for name in $machines; do
    ! grep -q 'FAIL' "$name.log" && grep -q 'PASS: the story is told' "$name.log"
done
