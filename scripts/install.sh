#!/bin/sh
# Makes .venv and installs one lock file into it; does nothing where that was done before.
set -eu
cd "$(dirname "$0")/.."
lock=$1
venv=.venv

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer was not found. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    echo "An interpreter elsewhere: PYTHON=/path/to/python3 make run" >&2
    return 1
}

make_venv() {
    python=$(find_python)
    rm -rf "$venv"
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        # Debian ships this part of Python apart.
        package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
        else
            echo "Python's venv module is not installed. Install it, then run the same command again:" >&2
            echo "    sudo apt-get install $package" >&2
            return 1
        fi
    fi
    "$python" -m venv "$venv"
}

if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    make_venv
fi

is_installed() { cmp -s "$1" "$venv/installed-$1"; }

# The development lock holds the whole runtime lock.
if is_installed "$lock" || is_installed requirements-dev.txt; then
    exit 0
fi
echo "Installing $lock into $venv; this happens once and takes a minute or two:"
# The lock is the whole set. Older releases of pip that resolve it again trip over an extra of a package
# that has had a newer release since.
# Each download is shown, so that a slow one can be told from none.
{ "$venv/bin/python" -m pip install --disable-pip-version-check --no-color --progress-bar off \
    --require-hashes --no-deps -r "$lock" || touch "$venv/failed"; } |
    sed -u -n -e '/\.metadata /d' -e 's/^ *Downloading \(.*\)/  \1/p' -e 's/^ *Using cached \(.*\)/  \1/p' \
        -e 's/^Installing collected packages.*/  Unpacking .../p'
if [ -e "$venv/failed" ]; then
    rm -f "$venv/failed"
    exit 1
fi
"$venv/bin/python" -m pip check
cp "$lock" "$venv/installed-$lock"
