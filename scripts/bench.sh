#!/bin/sh
# Sees that the programs the benchmark needs are installed; as root on Debian or Ubuntu it installs them.
set -eu

missing=
command -v wrk >/dev/null || missing="$missing wrk"
PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing="$missing nginx-light"
command -v taskset >/dev/null || missing="$missing util-linux"
command -v npm >/dev/null || missing="$missing nodejs npm"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    # Debian starts the server it installs; the benchmark starts one of its own.
    case $missing in *nginx*) systemctl disable --now nginx >/dev/null 2>&1 || true ;; esac
else
    echo "The benchmark needs programs that are not installed. Install them, then run the same command again:" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi
