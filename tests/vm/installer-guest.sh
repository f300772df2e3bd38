#!/bin/sh
# What the machines of installer.sh do: `link` gives them an address, `tell` is the story,
# once after each boot. Prints PASS and FAIL lines, and switches off at the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root KUBECONFIG=/etc/skiff/skiff.yaml
me=$(hostname)
server=10.77.0.1
releases=http://$server:8000
case $me in
    server) address=$server ;;
    *) address=10.77.0.2 ;;
esac
stage=/var/tmp/stage

seconds() { cut -d. -f1 /proc/uptime; }
failed() { echo "FAIL: $* (at $(seconds) s)"; }
# check WHAT COMMAND…
check() {
    what=$1
    shift
    if "$@" >/tmp/out 2>&1; then echo "PASS: $what (at $(seconds) s)"; else
        failed "$what"
        tail -n 20 /tmp/out | sed 's/^/    /'
        journalctl --no-pager -o cat -u 'skiff*' -n 20 | sed 's/^/    /'
    fi
}
# same WHAT GOT WANTED
same() {
    if [ "$2" = "$3" ]; then echo "PASS: $1 (at $(seconds) s)"; else
        failed "$1"
        echo "$3" >/tmp/wanted
        echo "$2" | diff /tmp/wanted - | sed 's/^/    /'
    fi
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
# until_told WHAT: the server lays a file beside the releases.
until_told() { eventually 1200 curl -sf -m 20 -o "/tmp/told-$1" "$releases/$1" || failed "waited for $1"; }

# What is there of files, and what the kernel has. Times of ARP and IPv6 lives are left out,
# and forwarding with what the kernel changes for it, which `skiff uninstall` says that it
# leaves on.
files() {
    find /etc /usr /var /root /home -xdev -not -path '/var/log/journal*' -not -path '/var/lib/systemd/*' \
        -not -path '/var/tmp/*' -not -path '/var/cache/*' -not -path /var/log/wtmp \( -type d -printf '%p %m\n' -o -printf '%p %s %m\n' \) | sort
}
kernel() {
    ip -o link | sed 's/^[0-9]*: //; s/ qdisc.*//'
    ip -o addr | sed 's/^[0-9]*: //; s/ valid_lft.*//; s/\\.*//'
    ip route show table all | sed 's/ expires.*//' | sort
    ip rule
    nft list ruleset
    cut -d' ' -f2,3 /proc/mounts | sort
    find /sys/fs/cgroup -type d -name '*skiff*'
    cat /proc/[0-9]*/comm 2>/dev/null | grep -E "skiff|toolbox|shim"
    sysctl -a 2>/dev/null | grep -E '^net\.(ipv4\.(ip_forward|conf\.(all|default|eth0))|ipv6\.conf\.(all|default|eth0)|bridge)|^vm\.(overcommit|panic)|^kernel\.panic' |
        grep -vE 'stable_secret|mtu|forward|accept_redirects'
}
install() { curl -sfL "$releases/install.sh" | sh -s - "$@"; }
field() { kubectl get "$1" -o "jsonpath={$2}"; }
ready() { kubectl get --raw /readyz && kubectl wait --for=condition=Ready "node/$1" --timeout=1s; }
containers() { kubectl get pods --sort-by=.metadata.name -o 'jsonpath={.items[*].status.containerStatuses[*].containerID}'; }
versions() { kubectl get nodes -o 'jsonpath={.items[*].status.nodeInfo.kubeletVersion}'; }
runs() { [ "$(versions)" = "$1" ]; }
one_far() { [ "$(kubectl get pods -l app=far -o name | wc -l)" = 1 ]; }
answers() { curl -s -m 10 "http://$1/" | grep "Hello from skiff"; }
# load ADDRESS: asks a Service without pause, and gives way to all else: emulated
# processors are few. What fails is written down with the time and curl's reason.
load() {
    while :; do
        answer=$(curl -sS -m 60 "http://$1/" 2>&1)
        case $answer in
            *"Hello from skiff"*) echo ok ;;
            *) echo "at $(seconds) s: $answer" ;;
        esac >>"/var/tmp/load-$1"
    done
}
serve() { systemd-run --quiet --unit=releases busybox httpd -f -p 8000 -h /srv/releases; }

link() {
    modprobe virtio_net
    eventually 30 ip link set eth0 up
    ip addr add "$address/24" dev eth0
    ip route add default via 10.77.0.254
}

before() {
    files >/var/tmp/files
    kernel >/var/tmp/kernel
}
removed() {
    check "uninstall" skiff uninstall --yes --delete-volumes
    same "$me: files are as before" "$(files)" "$(cat /var/tmp/files)"
    same "$me: the kernel is as before" "$(kernel)" "$(cat /var/tmp/kernel)"
}

server_first() {
    release=$(cat /srv/releases/channels/stable)
    next() { echo "${release%?}$1"; }
    before
    check "curl | sh installs a server" install server --node-ip "$address"
    sed 's/^/    /' /tmp/out
    check "node ready" eventually 300 ready server
    check "the service is enabled" systemctl is-enabled skiff
    skiff check >/tmp/out 2>&1
    same "skiff check" $? 0
    check "apply hello" kubectl apply -f /root/hello.yaml
    check "hello runs" kubectl rollout status deployment/hello --timeout=300s
    nodes=server
    if [ "$machines" = 2 ]; then
        nodes="agent server"
        # The agent looks every second: what it finds has to be whole.
        check "a token" sh -c "skiff token create >/srv/token && mv /srv/token /srv/releases/token"
        check "the agent joins" eventually 900 ready agent
        check "a pod for the agent" kubectl create deployment far --image=skiff.local/toolbox -- toolbox http-echo --port 8080 --text "Hello from skiff"
        kubectl patch deployment far -p '{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"agent"}}}}}' >/dev/null
        check "far runs" kubectl rollout status deployment/far --timeout=300s
        check "far has one pod" eventually 120 one_far
        check "a Service for it" kubectl expose deployment far --port=80 --target-port=8080
        far=$(field service/far .spec.clusterIP)
        check "the Service leads to the agent" eventually 60 answers "$far"
    fi
    address=$(field service/hello .spec.clusterIP)
    check "the Service answers" eventually 60 answers "$address"
    all() { # VERSION, once for each node
        for _ in $nodes; do printf '%s ' "$1"; done | sed 's/ $//'
    }

    was=$(containers)
    for service in "$address" $far; do
        systemd-run --quiet --unit="load-$service" -p Nice=19 story load "$service"
    done
    check "the same again" install server --node-ip "$server"
    same "changes nothing" "$(grep -o 'nothing has changed' /tmp/out)" "nothing has changed"
    check "the next build by the installer" env INSTALL_SKIFF_VERSION="$(next 2)" sh -c "curl -sfL $releases/install.sh | sh -s - server --node-ip $server"
    check "node ready" eventually 300 ready server
    same "its version" "$(field node/server .status.nodeInfo.kubeletVersion)" "$(next 2)"
    check "the one after it by skiff upgrade --cluster" skiff upgrade --cluster --version "$(next 3)" --yes --timeout 15m
    check "on every machine" eventually 60 runs "$(all "$(next 3)")"
    same "pods run through" "$(containers)" "$was"
    for service in "$address" $far; do
        systemctl stop "load-$service"
        same "no request failed" "$(grep -vx ok "/var/tmp/load-$service" | head -n 20)" ""
        grep -qvx ok "/var/tmp/load-$service" && kubectl get events -A
        asked=$(grep -cx ok "/var/tmp/load-$service")
        check "$asked requests were answered" test "$asked" -gt 50
    done
    skiff status
    echo reboot >$stage
    : >/srv/releases/reboot
    # The agent looks once a second.
    [ "$machines" = 1 ] || sleep 10
    systemctl reboot
}

server_rebooted() {
    check "ready after the reboot" eventually 300 ready server
    [ "$machines" = 1 ] || check "the agent is back" eventually 600 ready agent
    check "hello is available again" kubectl rollout status deployment/hello --timeout=300s
    check "its Service answers" eventually 120 answers "$(field service/hello .spec.clusterIP)"
    if [ "$machines" = 2 ]; then
        check "far is available again" kubectl rollout status deployment/far --timeout=300s
        check "its Service answers" eventually 120 answers "$(field service/far .spec.clusterIP)"
        : >/srv/releases/remove
        # The agent looks once a second, and goes on without its server.
        sleep 10
    fi
    removed
}

agent_first() {
    before
    until_told token
    check "curl | sh installs an agent" env SKIFF_URL="https://$server:6443" SKIFF_TOKEN="$(cat /tmp/told-token)" \
        sh -c "curl -sfL $releases/install.sh | sh -s - agent --node-ip $address"
    sed 's/^/    /' /tmp/out
    check "the service is enabled" systemctl is-enabled skiff-agent
    until_told reboot
    echo reboot >$stage
    systemctl reboot
}

agent_rebooted() {
    until_told remove
    removed
}

case $1 in
    link) link ;;
    load) load "$2" ;;
    tell)
        machines=$(sed -n 's/.*skiff.machines=\([0-9]*\).*/\1/p' /proc/cmdline)
        [ "$me" = agent ] || serve
        case $me$(cat $stage 2>/dev/null) in
            server) server_first; exit ;;
            serverreboot) server_rebooted ;;
            agent) agent_first; exit ;;
            agentreboot) agent_rebooted ;;
        esac
        echo "PASS: the story is told (at $(seconds) s)"
        systemctl poweroff
        ;;
esac
