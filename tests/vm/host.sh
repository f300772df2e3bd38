#!/bin/busybox sh
# shellcheck shell=dash
# PID 1 of a host of the harness that is a virtual machine: does what it is told on the
# second serial port, or on the console beside the only one (ARM). A request is a line: its number, a script and what that reads, in
# base64; the answer its number, the exit code, and what it wrote to each stream.
export PATH=/usr/bin:/bin HOME=/root
exec </dev/null >/dev/console 2>&1
modprobe virtio_net
modprobe virtio_console
mkdir -p /host
line=/dev/hvc0
speed=
[ -c $line ] || { line=/dev/ttyS1; speed=115200; }
# Open before it is told how to be: the console forgets that when nobody has it open.
exec 3<>$line
stty $speed raw -echo <&3
text() { base64 <"$1" | tr -d '\n'; }
echo up >&3
while read -r number script input <&3; do
    echo "$script" | base64 -d >/run/script
    echo "$input" | base64 -d >/run/input
    sh /run/script </run/input >/run/out 2>/run/err 3>&-
    code=$?
    echo "$number $code $(text /run/out) $(text /run/err)" >&3
done
