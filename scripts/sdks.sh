#!/bin/sh
# Runs the test suites of official clients through the gateway: scripts/sdks.sh [CLIENT ...]
# The clients are installed in .venv-sdks from their lock file. Their tests are in their sdists, which pip
# downloads with the hashes of the same file.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-sdks
lock=requirements-sdks.txt
python=.venv/bin/python

prepare() {
    rm -rf "$venv"
    echo "Installing $lock into $venv; this happens once."
    $python -m uv venv --quiet "$venv" --python $python
    $python -m uv pip install --quiet --python "$venv" --require-hashes -r "$lock"
    $python -m uv pip check --quiet --python "$venv"
    for client in openai anthropic cerebras-cloud-sdk; do
        # The entry of a lock file ends with the first line that is not continued.
        sed -n "/^$client==/,/[^\\\\]\$/p" "$lock"
    done > "$venv/sdists.txt"
    $python -m pip --python "$venv/bin/python" download --quiet --disable-pip-version-check --no-deps \
        --no-binary :all: --no-build-isolation --require-hashes -r "$venv/sdists.txt" -d "$venv/sdists"
    for sdist in "$venv"/sdists/*.tar.gz; do
        tar -xzf "$sdist" -C "$venv/sdists"
    done
    cp "$lock" "$venv/installed"
}

cmp -s "$lock" "$venv/installed" || prepare
exec $python -m tests.sdks "$venv" "$@"
