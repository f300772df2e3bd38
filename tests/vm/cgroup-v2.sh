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
# How the machine is made, and what is installed for it: guest.sh. Takes one to three
# minutes on two cores, and 1 GB below target/vm.
#
# SKIFF=FILE      the binary (default target/debug/skiff); optimised ones boot faster
# KUBECTL=FILE    the client (default: that of PATH), 1.30 or newer
# PARTS=cgroups   only that; or clock, which takes seven minutes more than that
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/vm
for program in "$@"; do
    shift
    set -- "$@" "$program=/tests/$(basename "$program")"
done
"$root/tests/vm/guest.sh" "$work" "$root/tests/vm/cgroup-v2-guest.sh" "$root/docs/examples/hello.yaml=/root/hello.yaml" "$@"
cd "$work"

# The user network gives an address and a default route, and leads nowhere.
timeout "${VM_TIMEOUT:-1800}" ./qemu -smp 2 -m 1536 -serial stdio \
    -append "console=ttyS0 quiet panic=-1 skiff.parts=${PARTS:-all}" \
    -drive file=disk.img,format=raw,if=none,id=disk,cache=unsafe \
    -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,romfile= \
    </dev/null | tee console.log
! grep -q '^FAIL' console.log && grep -q '^PASS: everything was looked at' console.log
