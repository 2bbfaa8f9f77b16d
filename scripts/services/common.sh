# shellcheck shell=bash disable=SC2034,SC2154
# What the service scripts share. Sourced by scripts/test and scripts/faults.

say() { printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# Whether something listens on HOST PORT.
# shellcheck disable=SC2016
listens() { timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; }

# A port of 127.0.0.1 that nobody listens on.
free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 12000))
        listens 127.0.0.1 "$port" || {
            echo "$port"
            return
        }
    done
    die "no free port was found"
}

# Repeats a command until it succeeds: within SECONDS, or it fails.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# Runs a command with the rights to install.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

# The container engine that answers; fails if none does.
container_engine() {
    local engine
    for engine in docker podman; do
        if command -v "$engine" >/dev/null && timeout 20 "$engine" info >/dev/null 2>&1; then
            echo "$engine"
            return
        fi
    done
    return 1
}

# Installs packages: install WHAT DEBIAN_PACKAGE HOMEBREW_PACKAGE. Fails where there is no way to.
install() {
    local what=$1 debian=$2 homebrew=$3
    if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        say "installing $what (apt-get install $debian)"
        apt_install "$debian"
    elif command -v brew >/dev/null; then
        say "installing $what (brew install $homebrew)"
        brew install --quiet "$homebrew" >&2
    else
        return 1
    fi
}

# Installs Debian packages without letting them start their services: the run starts instances of its own.
apt_install() {
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        made=1
    fi
    local status=0
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"
    } >"$scratch/apt.log" 2>&1 </dev/null || status=$?
    [[ -z $made ]] || as_root rm -f "$policy"
    if ((status != 0)); then
        tail -n 20 "$scratch/apt.log" >&2
        die "apt-get could not install $1; its last lines are above"
    fi
}
