#!/bin/sh
# Runs the test suites of official clients through the gateway: scripts/sdks.sh [--if-present] [CLIENT ...]
# The clients are installed in .venv-sdks from their lock file. Their tests are in their sdists, which pip
# downloads with the hashes of the same file. With --if-present a package index out of reach is no failure.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-sdks
lock=requirements-sdks.txt
python=.venv/bin/python
if_present=
if [ "${1:-}" = --if-present ]; then
    if_present=1
    shift
fi

sdists() { # prints the entries of the lock file that pip downloads; an entry ends with the first line not continued
    for client in openai anthropic cerebras-cloud-sdk; do
        sed -n "/^$client==/,/[^\\\\]\$/p" "$lock"
    done
}

prepare() {
    echo "Installing $lock into $venv; this happens once."
    rm -rf "$venv" &&
        $python -m uv venv --quiet "$venv" --python $python &&
        $python -m uv pip install --quiet --python "$venv" --require-hashes -r "$lock" &&
        $python -m uv pip check --quiet --python "$venv" &&
        sdists > "$venv/sdists.txt" &&
        $python -m pip --python "$venv/bin/python" download --quiet --disable-pip-version-check --no-deps \
            --no-binary :all: --no-build-isolation --require-hashes -r "$venv/sdists.txt" -d "$venv/sdists" &&
        find "$venv/sdists" -name '*.tar.gz' -exec tar -xzf {} -C "$venv/sdists" ';' &&
        cp "$lock" "$venv/installed"
}

if ! cmp -s "$lock" "$venv/installed" && ! prepare; then
    [ -n "$if_present" ] || exit 1
    echo "The suites of the clients: not run, their packages could not be installed."
    exit 0
fi
exec $python -m tests.sdks "$venv" "$@"
