#!/bin/sh
# Installs skiff, brings it up to date, or changes how it runs:
#
#   curl -sfL URL | sh -                                        a server
#   curl -sfL URL | SKIFF_URL=https://server:6443 SKIFF_TOKEN=… sh -   a node of it
#   curl -sfL URL | sh -s - server --tls-san pi.local           with flags
#
# Run again it upgrades in place: pods run through, and the service restarts
# only when the program or its settings have changed. Nothing is changed
# before everything is downloaded and verified, and a program that does not
# start gives way to the one of before.
#
# Settings are environment variables:
#
#   INSTALL_SKIFF_EXEC            command and flags: "server --tls-san pi.local"; arguments follow them
#   INSTALL_SKIFF_VERSION         this version; the channel's where unset
#   INSTALL_SKIFF_CHANNEL         stable (the default), latest
#   INSTALL_SKIFF_MIRROR          where the releases are, instead of the project's own place
#   INSTALL_SKIFF_AIRGAP_DIR      take the files of one release from this folder, without a network
#   INSTALL_SKIFF_BIN_DIR         where the program goes; /usr/local/bin where unset
#   INSTALL_SKIFF_NAME            name of the service; skiff, or skiff-agent for an agent
#   INSTALL_SKIFF_SYMLINK         "skip": no `kubectl` beside it; else where none is installed; "force": always
#   INSTALL_SKIFF_SKIP_ENABLE     "true": the service is started neither at boot nor now
#   INSTALL_SKIFF_SKIP_START      "true": the service is not started now
#   INSTALL_SKIFF_FORCE_RESTART   "true": the service restarts even if nothing changed
#   INSTALL_SKIFF_SKIP_SIGNATURE  "true": checksums alone are verified (no openssl here)
#   SKIFF_…                       flags of skiff as variables; kept for the service
set -eu

# Filled in when a release is made.
RELEASES='@RELEASES@'
PUBLIC_KEY='@PUBLIC_KEY@'

CHANNEL=${INSTALL_SKIFF_CHANNEL:-stable}
BIN_DIR=${INSTALL_SKIFF_BIN_DIR:-/usr/local/bin}
UNIT_DIR=/etc/systemd/system
FREE_KIB_MIN=102400

say() { printf '[skiff] %s\n' "$*"; }
warn() { printf '[skiff] warning: %s\n' "$*" >&2; }
die() {
    printf '[skiff] %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_true() { [ "${1:-}" = true ] || [ "${1:-}" = 1 ]; }

# Everything is made here first; gone at the end, whatever the end is.
WORK=
trap '[ -z "$WORK" ] || rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM HUP

# --- what is asked for -------------------------------------------------------

# A word that systemd and a shell read back alike.
quoted() {
    case $1 in
        *"'"* | *\\* | *"
"*) die "this cannot be kept for a service, since it has a quote, a backslash or a line break: $1" ;;
        '' | *[!A-Za-z0-9_./:=@,+-]*) printf "'%s'" "$1" ;;
        *) printf '%s' "$1" ;;
    esac
}

# The words of a text, a line each; those in quotes may have spaces, and nothing
# else means anything: words_of TEXT
words_of() {
    printf '%s\n' "$1" | awk '
        function done() { if (any) print word; word = ""; any = 0 }
        {
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                if (quote != "" && c == quote) quote = ""
                else if (quote != "") word = word c
                else if (c == "\047" || c == "\042") { quote = c; any = 1 }
                else if (c == " " || c == "\t") done()
                else { word = word c; any = 1 }
            }
            done()
        }
        END { exit quote != "" }'
}

# One more word of the command line that is installed.
take() {
    if [ -z "$COMMAND" ]; then
        choose_command
        case $1 in
            server | agent)
                COMMAND=$1
                return
                ;;
            '' | -*) ;;
            *) die "\"$1\" cannot be installed as a service: say server or agent, then flags" ;;
        esac
    fi
    word=$(quoted "$1") || exit 1
    ARGUMENTS="$ARGUMENTS $word"
}

choose_command() {
    COMMAND=server
    [ -z "${SKIFF_URL:-}" ] || COMMAND=agent
}

# What looks like a setting and is none; above all those of k3s that have no counterpart.
tell_unknown_settings() {
    for name in $(env | sed -n 's/^\([A-Z0-9_]*\)=.*/\1/p' | grep -E '^(INSTALL_SKIFF|INSTALL_K3S|K3S)_' | sort -u); do
        case $name in
            *K3S_*) warn "$name is a setting of k3s: those here begin with ${name%%K3S_*}SKIFF_" ;;
            INSTALL_SKIFF_EXEC | INSTALL_SKIFF_VERSION | INSTALL_SKIFF_CHANNEL | INSTALL_SKIFF_MIRROR | \
                INSTALL_SKIFF_AIRGAP_DIR | INSTALL_SKIFF_BIN_DIR | INSTALL_SKIFF_NAME | INSTALL_SKIFF_SYMLINK | \
                INSTALL_SKIFF_SKIP_ENABLE | INSTALL_SKIFF_SKIP_START | INSTALL_SKIFF_FORCE_RESTART | \
                INSTALL_SKIFF_SKIP_SIGNATURE) ;;
            *) warn "$name is no setting of this installer and does nothing; its head lists those there are" ;;
        esac
    done
}

# COMMAND (server or agent) and ARGUMENTS, from INSTALL_SKIFF_EXEC and then the
# arguments of this script; a bare flag belongs to the command that SKIFF_URL
# decides.
read_arguments() {
    COMMAND=''
    ARGUMENTS=''
    if [ -n "${INSTALL_SKIFF_EXEC:-}" ]; then
        words=$(words_of "$INSTALL_SKIFF_EXEC") ||
            die "INSTALL_SKIFF_EXEC has a quote that does not end, or there is no awk: $INSTALL_SKIFF_EXEC"
        while IFS= read -r word; do
            take "$word"
        done <<WORDS
$words
WORDS
    fi
    for argument in "$@"; do
        take "$argument"
    done
    [ -n "$COMMAND" ] || choose_command
    if [ "$COMMAND" = agent ] && ! has_joined; then
        [ -n "${SKIFF_TOKEN:-}" ] || is_told token t ||
            die "an agent needs a token: set SKIFF_TOKEN to what \`skiff token create\` prints on a server"
        [ -n "${SKIFF_URL:-}" ] || is_told server s ||
            die "an agent needs a server: set SKIFF_URL to https://SERVER:6443"
    fi
    case $COMMAND in
        agent) NAME=${INSTALL_SKIFF_NAME:-skiff-agent} ;;
        *) NAME=${INSTALL_SKIFF_NAME:-skiff} ;;
    esac
    case $NAME in
        *[!A-Za-z0-9_-]*) die "INSTALL_SKIFF_NAME=$NAME: letters, digits, - and _ only" ;;
    esac
    for file in "$UNIT_DIR/$NAME.service" "/etc/init.d/$NAME" "/lib/systemd/system/$NAME.service" "/usr/lib/systemd/system/$NAME.service"; do
        [ ! -e "$file" ] || grep -q '/skiff' "$file" ||
            die "INSTALL_SKIFF_NAME=$NAME: $file is a service of something else"
    done
}

# Whether a flag is among the arguments or in a config file: is_told NAME LETTER
is_told() {
    case "$ARGUMENTS " in
        *" --$1 "* | *" --$1="* | *" -$2"*) return 0 ;;
        # Another file, which is read when the service starts.
        *" --config "* | *" --config="* | *" -c"*) return 0 ;;
    esac
    [ -z "${SKIFF_CONFIG:-}" ] || return 0
    grep -qs "^$1 *:" /etc/skiff/config.yaml /etc/skiff/config.yaml.d/*.yaml
}

# An agent that has joined once needs neither token nor server; where its folder is told
# elsewhere, its service says that it has.
has_joined() {
    [ -e "${SKIFF_DATA_DIR:-/var/lib/skiff}/agent/cluster.json" ] && return 0
    is_told data-dir d || return 1
    [ -e "$UNIT_DIR/${INSTALL_SKIFF_NAME:-skiff-agent}.service" ] || [ -e "/etc/init.d/${INSTALL_SKIFF_NAME:-skiff-agent}" ]
}

# --- what this machine is ----------------------------------------------------

check_machine() {
    [ "$(id -u)" = 0 ] || die "root is needed to install a service: run it with sudo"
    case $(uname -s) in
        Linux) ;;
        *) die "skiff runs on Linux, not on $(uname -s)" ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) ARCH=x86_64 ;;
        aarch64 | arm64) ARCH=aarch64 ;;
        armv7l | armv8l | armhf) ARCH=armv7 ;;
        *) die "there is no skiff for $(uname -m): x86_64, aarch64 and armv7 are built" ;;
    esac
    # A 64-bit kernel under a 32-bit Raspberry Pi OS runs 32-bit programs only.
    if [ "$ARCH" = aarch64 ] && have getconf && [ "$(getconf LONG_BIT)" = 32 ]; then
        ARCH=armv7
    fi
    for program in sha256sum mktemp sed grep awk cmp df; do
        have "$program" || die "$program is missing: install coreutils, sed, grep, awk and diffutils"
    done
    if have systemctl && [ -d /run/systemd/system ]; then
        INIT=systemd
    elif have rc-service && have rc-update; then
        INIT=openrc
    else
        die "neither systemd nor OpenRC runs here: start \`skiff $COMMAND\` from the init system that does; the program alone is at $RELEASES"
    fi
    # Its scripts have the words in double quotes, where these mean something.
    case $INIT$ARGUMENTS in
        openrc*[\"\$\`]*) die "OpenRC cannot keep words with \", \$ or \`: put them into /etc/skiff/config.yaml:$ARGUMENTS" ;;
    esac
}

# A machine has one role, unless its services are given names.
check_role() {
    [ -z "${INSTALL_SKIFF_NAME:-}" ] || return 0
    case $COMMAND in
        server) is='an agent' other=skiff-agent ;;
        *) is='a server' other=skiff ;;
    esac
    [ -e "$UNIT_DIR/$other.service" ] || [ -e "/etc/init.d/$other" ] || return 0
    die "this machine is $is ($other): \`skiff upgrade\` brings it up to date; to make it another, \`skiff uninstall\` first"
}

# Others that would fight over the same ports, rules and cgroups.
check_others() {
    for other in k3s k3s-agent rke2-server rke2-agent snap.microk8s.daemon-kubelite kubelet; do
        case $INIT in
            systemd) systemctl is-active --quiet "$other" 2>/dev/null || continue ;;
            openrc) rc-service --quiet "$other" status >/dev/null 2>&1 || continue ;;
        esac
        die "$other runs on this machine and holds the same ports and rules: stop and remove it first (for k3s: k3s-killall.sh, then k3s-uninstall.sh)"
    done
    [ "$COMMAND" = server ] || return 0
    is_running && return 0
    # /proc/net/tcp: local address, state 0A is LISTEN; 6443 is 192B.
    if [ -z "${SKIFF_HTTPS_LISTEN_PORT:-}" ] && ! is_told https-listen-port -https-listen-port &&
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -Eq '^ *[0-9]+: [0-9A-F]+:192B [0-9A-F]+:0000 0A'; then
        die "something listens on port 6443 already: end it, or choose another port with --https-listen-port"
    fi
}

is_running() {
    case $INIT in
        systemd) systemctl is-active --quiet "$NAME" ;;
        openrc) rc-service --quiet "$NAME" status >/dev/null 2>&1 ;;
    esac
}

check_space() {
    free=$(df -Pk "$1" 2>/dev/null | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\).*/\1/p')
    [ -z "$free" ] || [ "$free" -ge "$FREE_KIB_MIN" ] ||
        die "$1 has $((free / 1024)) MiB free, $((FREE_KIB_MIN / 1024)) MiB are needed: make room and try again"
}

# --- the files ---------------------------------------------------------------

# From the folder, or over the network: fetch NAME INTO
fetch() {
    if [ -n "${INSTALL_SKIFF_AIRGAP_DIR:-}" ]; then
        [ -e "$INSTALL_SKIFF_AIRGAP_DIR/${1##*/}" ] ||
            die "$INSTALL_SKIFF_AIRGAP_DIR has no file ${1##*/}: copy all files of one release there"
        why=$(cp "$INSTALL_SKIFF_AIRGAP_DIR/${1##*/}" "$2" 2>&1) || die "cannot copy ${1##*/}: $why; nothing was changed"
        return
    fi
    url=$RELEASES/$1
    if have curl; then
        why=$(curl -fsSL --retry 3 --connect-timeout 20 -o "$2" "$url" 2>&1) ||
            die "cannot download $url: $(echo "$why" | tail -n 1); nothing was changed"
    elif have wget; then
        wget -q -T 20 -O "$2" "$url" 2>/dev/null || die "cannot download $url; nothing was changed"
    else
        die "neither curl nor wget is here: install one of them, or set INSTALL_SKIFF_AIRGAP_DIR"
    fi
}

find_version() {
    [ -z "${INSTALL_SKIFF_MIRROR:-}" ] || RELEASES=${INSTALL_SKIFF_MIRROR%/}
    [ -n "${INSTALL_SKIFF_AIRGAP_DIR:-}" ] && VERSION= && return
    case $RELEASES in
        @*) die "this installer is not of a release: set INSTALL_SKIFF_MIRROR or INSTALL_SKIFF_AIRGAP_DIR" ;;
    esac
    VERSION=${INSTALL_SKIFF_VERSION:-}
    if [ -z "$VERSION" ]; then
        fetch "channels/$CHANNEL" "$WORK/channel"
        VERSION=$(head -n 1 "$WORK/channel")
    fi
    case $VERSION in
        v[0-9]*) ;;
        *) die "\"$VERSION\" is no version of skiff: it looks like v1.37.0+skiff1" ;;
    esac
}

download() {
    mkdir -p "$BIN_DIR"
    check_space "$BIN_DIR"
    # On the file system of its place, so that the last step is one rename.
    WORK=$(mktemp -d "$BIN_DIR/.skiff-install.XXXXXX") || die "cannot write to $BIN_DIR"
    find_version
    from=${VERSION:+$VERSION/}
    say "getting skiff ${VERSION:-from $INSTALL_SKIFF_AIRGAP_DIR} for $ARCH"
    fetch "${from}SHA256SUMS" "$WORK/SHA256SUMS"
    verify_signature "$from"
    check_version
    if is_packed; then
        fetch "${from}skiff-$ARCH.gz" "$WORK/skiff-$ARCH.gz"
        verify_checksum "skiff-$ARCH.gz"
        why=$(gzip -d "$WORK/skiff-$ARCH.gz" 2>&1) || die "cannot unpack skiff-$ARCH.gz: $(echo "$why" | tail -n 1); nothing was changed"
    else
        fetch "${from}skiff-$ARCH" "$WORK/skiff-$ARCH"
    fi
    verify_checksum "skiff-$ARCH"
    chmod 755 "$WORK/skiff-$ARCH"
    "$WORK/skiff-$ARCH" --version >"$WORK/version" 2>&1 ||
        die "skiff-$ARCH does not run on this machine: $(head -n 1 "$WORK/version")"
}

# What a channel or a mirror calls a release is not signed; its list of contents has the
# version in its name, and is. An older one than is here has to be asked for.
check_version() {
    [ -n "$VERSION" ] || return 0
    sed 's/^[0-9a-f]*  //' "$WORK/SHA256SUMS" | grep -qxF "skiff-$VERSION.cdx.json" ||
        die "what is served as $VERSION is another release: the mirror is mixed up, or tampered with; nothing was changed"
    [ -z "${INSTALL_SKIFF_VERSION:-}" ] && [ -x "$BIN_DIR/skiff" ] || return 0
    is=$("$BIN_DIR/skiff" --version 2>/dev/null | sed -n '1s/.*\(v[0-9][^ ]*+skiff[0-9]*\).*/\1/p')
    newer=$(printf '%s\n%s\n' "$is" "$VERSION" | sort -V 2>/dev/null | tail -n 1)
    [ -z "$is" ] || [ -z "$newer" ] || [ "$newer" = "$VERSION" ] ||
        die "here is $is, which is newer than $VERSION of the channel $CHANNEL: choose another with INSTALL_SKIFF_CHANNEL, or go back with INSTALL_SKIFF_VERSION=$VERSION; nothing was changed"
}

# Whether the release has the program packed, too, and it can be unpacked here.
is_packed() {
    have gzip && grep -Eq "  skiff-$ARCH\.gz\$" "$WORK/SHA256SUMS" || return 1
    [ -z "${INSTALL_SKIFF_AIRGAP_DIR:-}" ] || [ -e "$INSTALL_SKIFF_AIRGAP_DIR/skiff-$ARCH.gz" ]
}

verify_checksum() {
    grep -E "^[0-9a-f]{64}  $1\$" "$WORK/SHA256SUMS" >"$WORK/sum" ||
        die "SHA256SUMS has no line for $1: the release is not complete"
    (cd "$WORK" && sha256sum -c sum >/dev/null 2>&1) ||
        die "$1 does not have the checksum it should have: the download was cut short or tampered with; nothing was changed"
}

verify_signature() {
    if is_true "${INSTALL_SKIFF_SKIP_SIGNATURE:-}"; then
        warn "the signature is not verified, as INSTALL_SKIFF_SKIP_SIGNATURE says"
        return
    fi
    case $PUBLIC_KEY in
        @*) die "this installer has no key to verify releases with: use the one of a release, or set INSTALL_SKIFF_SKIP_SIGNATURE=true" ;;
    esac
    have openssl ||
        die "openssl is missing, the signature cannot be verified: install it, or set INSTALL_SKIFF_SKIP_SIGNATURE=true to rely on the checksum alone"
    fetch "${1}SHA256SUMS.sig" "$WORK/SHA256SUMS.sig"
    printf '%s\n' "$PUBLIC_KEY" >"$WORK/key.pem"
    openssl dgst -sha256 -verify "$WORK/key.pem" -signature "$WORK/SHA256SUMS.sig" "$WORK/SHA256SUMS" >/dev/null 2>&1 ||
        die "the signature of SHA256SUMS is not the project's: the files were tampered with; nothing was changed"
}

# --- putting it in place -----------------------------------------------------

# There from the first change until the service has started with it, in this run or a later one.
changed() { printf '/run/skiff-changed.%s' "$NAME"; }

# Puts a file in place unless it is there already: place FILE AT MODE
place() {
    if [ -e "$2" ] && cmp -s "$1" "$2"; then
        return
    fi
    : >"$(changed)"
    chmod "$3" "$1"
    if [ "${1%/*}" = "$WORK" ] && [ "${2%/*}" = "$BIN_DIR" ]; then
        mv -f "$1" "$2" || die "cannot write $2"
    else
        if ! { mkdir -p "${2%/*}" && cp "$1" "$2.new" && chmod "$3" "$2.new" && mv -f "$2.new" "$2"; }; then
            die "cannot write $2"
        fi
    fi
}

# SKIFF_… variables are flags; those and proxies are kept, readable for root.
write_environment() {
    : >"$WORK/env"
    for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | grep -E '^(SKIFF_.*|(HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy)$' | sort -u); do
        eval "value=\$$name"
        value=$(quoted "$value") || exit 1
        printf '%s=%s\n' "$name" "$value" >>"$WORK/env"
    done
}

# Fills one of the services below in.
fill() {
    ARGUMENTS=$ARGUMENTS awk -v binary="$BIN_DIR/skiff" -v command="$COMMAND" -v environment="$1" '
        function put(mark, value,    at) {
            while (at = index($0, mark))
                $0 = substr($0, 1, at - 1) value substr($0, at + length(mark))
        }
        {
            put("@BINARY@", binary); put("@COMMAND@", command); put("@ENVIRONMENT@", environment)
            put("@ARGUMENTS@", ENVIRON["ARGUMENTS"])
            print
        }'
}

systemd_unit() {
    cat <<'SERVICE'
@SYSTEMD@
SERVICE
}

openrc_service() {
    cat <<'SERVICE'
@OPENRC@
SERVICE
}

install_service() {
    case $INIT in
        systemd)
            place "$WORK/env" "$UNIT_DIR/$NAME.env" 600
            # A % and a $ mean something to systemd.
            systemd_unit | fill "$UNIT_DIR/$NAME.env" | sed '/^ExecStart=/{s/%/%%/g;s/\$/$$/g;}' >"$WORK/unit"
            place "$WORK/unit" "$UNIT_DIR/$NAME.service" 644
            systemctl daemon-reload
            is_true "${INSTALL_SKIFF_SKIP_ENABLE:-}" || systemctl enable --quiet "$NAME"
            ;;
        openrc)
            sed -i 's/^/export /' "$WORK/env"
            place "$WORK/env" "/etc/conf.d/$NAME" 600
            openrc_service | fill "/etc/conf.d/$NAME" >"$WORK/unit"
            place "$WORK/unit" "/etc/init.d/$NAME" 755
            is_true "${INSTALL_SKIFF_SKIP_ENABLE:-}" || rc-update --quiet add "$NAME" default
            ;;
    esac
}

# Where `skiff upgrade` finds the next release, and the key that it is signed with.
# Neither is a reason to restart.
keep_origin() {
    mkdir -p /etc/skiff
    case $RELEASES in
        @*) ;;
        *)
            : >>/etc/skiff/releases
            # With somebody's password in it.
            case $RELEASES in *@*) chmod 600 /etc/skiff/releases ;; esac
            printf '%s\n' "$RELEASES" >/etc/skiff/releases
            ;;
    esac
    case $PUBLIC_KEY in
        @*) ;;
        *) printf '%s\n' "$PUBLIC_KEY" >/etc/skiff/releases.pem ;;
    esac
}

install_kubectl() {
    [ "${INSTALL_SKIFF_SYMLINK:-}" != skip ] || return 0
    "$BIN_DIR/skiff" help 2>/dev/null | grep -q '^ *kubectl' || return 0
    [ "${INSTALL_SKIFF_SYMLINK:-}" = force ] || ! have kubectl || return 0
    [ "${INSTALL_SKIFF_SYMLINK:-}" = force ] || ! [ -e "$BIN_DIR/kubectl" ] || return 0
    ln -sf skiff "$BIN_DIR/kubectl"
}

start_service() {
    if is_true "${INSTALL_SKIFF_SKIP_START:-}" || is_true "${INSTALL_SKIFF_SKIP_ENABLE:-}"; then
        say "installed; start it with: $(how_to restart)"
        return
    fi
    if is_running && [ ! -e "$(changed)" ] && ! is_true "${INSTALL_SKIFF_FORCE_RESTART:-}"; then
        say "nothing has changed; $NAME goes on running"
        return
    fi
    say "starting $NAME; its log says how that goes: $(how_to log)"
    if ! restart; then
        [ -e "$WORK/before" ] || die "$NAME is installed but does not start; its log says why: $(how_to log)"
        mv -f "$WORK/before" "$BIN_DIR/skiff"
        restart || die "$NAME starts neither with the new program nor with the one of before, which is in place again; its log says why: $(how_to log)"
        die "$NAME does not start with the new program; the one of before is in place and runs; the log says why: $(how_to log)"
    fi
    rm -f "$(changed)"
    case $INIT in
        systemd) say "$NAME runs" ;;
        # What becomes of the program its supervisor does not tell.
        openrc) say "$NAME is started" ;;
    esac
    [ "$COMMAND" != server ] || say "the cluster's kubeconfig is /etc/skiff/skiff.yaml"
}

restart() {
    case $INIT in
        systemd) systemctl restart "$NAME" ;;
        openrc) rc-service --quiet "$NAME" restart ;;
    esac
}

how_to() {
    case $INIT/$1 in
        systemd/restart) echo "systemctl restart $NAME" ;;
        systemd/log) echo "journalctl -u $NAME" ;;
        openrc/restart) echo "rc-service $NAME restart" ;;
        openrc/log) echo "less /var/log/$NAME.log" ;;
    esac
}

# Called on the last line, so that a script that was cut short does nothing.
main() {
    tell_unknown_settings
    read_arguments "$@"
    check_machine
    check_role
    check_others
    download
    write_environment
    if is_running && [ -e "$BIN_DIR/skiff" ] && ! cmp -s "$WORK/skiff-$ARCH" "$BIN_DIR/skiff"; then
        ln "$BIN_DIR/skiff" "$WORK/before" 2>/dev/null || cp -p "$BIN_DIR/skiff" "$WORK/before"
    fi
    place "$WORK/skiff-$ARCH" "$BIN_DIR/skiff" 755
    keep_origin
    install_service
    install_kubectl
    start_service
}

main "$@"
