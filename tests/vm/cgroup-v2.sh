#!/bin/sh
# Shows skiff at work on cgroup v2, in a virtual machine: for machines whose own
# kernel has only v1. Run by hand; `./x test` does not need it.
#
#   tests/vm/cgroup-v2.sh [TEST-PROGRAM...]
#
# A Debian kernel boots in QEMU without KVM, with one unified cgroup tree. In it
# a server starts, a stock kubectl applies docs/examples/hello.yaml, and the
# cgroup files of its pods are looked at: limits of memory, CPU and processes,
# an OOM kill, adoption after `kill -9`, and nothing left after `killall`; and so is
# what the machine of other tests would not bear or does not have (PARTS). Each
# check prints PASS or FAIL; the exit code says whether all passed. Programs
# given as arguments (built tests of `linux` or `node-runtime`) run in the
# machine too, as root.
#
# How the machine is made, and what is installed for it: guest.sh; for nfs,
# nfs-kernel-server is unpacked too. Takes one to three minutes on two cores, and 1 GB
# below target/vm.
#
# SKIFF=FILE      the binary (default target/debug/skiff); optimised ones boot faster
# KUBECTL=FILE    the client (default: that of PATH), 1.30 or newer
# PARTS=…         only these of:
#     cgroups       limits of containers, adoption of pods
#     allocatable   what is reserved is kept from pods together (--system-reserved)
#     hugepages     volumes of huge pages, and limits
#     block         a raw block volume and a file system on a loop device
#     nfs           a volume of an NFS server that runs in the machine
#     clock         the clock is set; seven minutes more than the rest
#     wireguard     the kernel's, between two nodes that are networks of the machine
#     programs      those given and no server: the tests of `netlink` and `net-overlay`
#                   find WireGuard there, which many kernels lack
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/vm
for program in "$@"; do
    shift
    set -- "$@" "$program=/tests/$(basename "$program")"
done
case ,${PARTS:-all}, in
    *,all,* | *,nfs,*)
        # The server of NFS and those of its libraries that no minimal Debian has,
        # unpacked and not installed.
        packages="nfs-kernel-server nfs-common libnfsidmap1 libtirpc3 libtirpc-common
            libevent-core-2.1-7 libkeyutils1 libgssapi-krb5-2 libkrb5-3 libk5crypto3
            libkrb5support0 libwrap0 libsqlite3-0 libreadline8"
        nfs=$work/nfs
        if [ ! -d "$nfs" ]; then
            mkdir -p "$work/nfs-packages"
            # shellcheck disable=SC2086 # a list of package names
            (cd "$work/nfs-packages" && apt-get download -qq $packages)
            for package in "$work"/nfs-packages/*.deb; do dpkg-deb -x "$package" "$nfs"; done
        fi
        set -- "$@" "$nfs/etc/netconfig=/etc/netconfig"
        for program in rpc.nfsd rpc.mountd exportfs; do
            file=$(find "$nfs" -name "$program" ! -type d | head -n1)
            set -- "$@" "$file=/bin/$program"
            for library in $(LD_LIBRARY_PATH=$nfs/usr/lib/x86_64-linux-gnu:$nfs/lib/x86_64-linux-gnu ldd "$file" |
                sed -n 's/.* => \([^ ]*\) .*/\1/p'); do
                set -- "$@" "$library=/lib/x86_64-linux-gnu/$(basename "$library")"
            done
        done
        ;;
esac
"$root/tests/vm/guest.sh" "$work" "$root/tests/vm/cgroup-v2-guest.sh" "$root/docs/examples/hello.yaml=/root/hello.yaml" "$@"
cd "$work"

# The user network gives an address and a default route, and leads nowhere.
timeout "${VM_TIMEOUT:-1800}" ./qemu -smp 2 -m 1536 -serial stdio \
    -append "console=ttyS0 quiet panic=-1 skiff.parts=${PARTS:-all}" \
    -drive file=disk.img,format=raw,if=none,id=disk,cache=unsafe \
    -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,romfile= \
    </dev/null | tee console.log
! grep -q '^FAIL' console.log && grep -q '^PASS: everything was looked at' console.log
