#!/bin/sh
# Runs tests on the supported pairs of Python and Django, each in an environment of its own below .venv-matrix.
#     scripts/matrix.sh all|newest TESTS...
# "all" takes every pair whose interpreter is present, "newest" the newest Django with the first interpreter it runs on.
# The lock decides every version except Django's, which is the newest release of its series.
set -eu
cd "$(dirname "$0")/.."
which=$1
shift
uv="$PWD/.venv/bin/python -m uv"

case $which in
    all) pairs="3.11:5.2 3.12:5.2 3.12:6.0 3.12:6.1 3.13:5.2 3.13:6.0 3.13:6.1 3.14:5.2 3.14:6.0 3.14:6.1" ;;
    newest) pairs="3.12:6.1 3.13:6.1 3.14:6.1" ;;
    *) echo "usage: scripts/matrix.sh all|newest TESTS..." >&2; exit 2 ;;
esac

find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
        if "$candidate" -c 'import ensurepip' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    $uv python find --no-python-downloads "$1" 2>/dev/null || true
}

prepare() { # VENV PYTHON DJANGO
    cmp -s requirements-dev.txt "$1/installed" && return
    rm -rf "$1"
    $uv venv --quiet --python "$2" "$1"
    $uv pip install --quiet --python "$1" --require-hashes -r requirements-dev.txt
    $uv pip install --quiet --python "$1" "django~=$3.0"
    $uv pip check --quiet --python "$1"
    cp requirements-dev.txt "$1/installed"
}

ran=
for pair in $pairs; do
    python=$(find_python "${pair%%:*}")
    name="Python ${pair%%:*} with Django ${pair##*:}"
    if [ -z "$python" ]; then
        echo "$name: not run, the interpreter is not installed."
        continue
    fi
    venv=".venv-matrix/${pair%%:*}-${pair##*:}"
    echo "$name:"
    prepare "$venv" "$python" "${pair##*:}"
    # `error` in pytest's settings begins with the tests; these two also hold for what is imported before.
    TEST_SERVICES=none "$venv/bin/python" -W error::DeprecationWarning -W error::PendingDeprecationWarning \
        -m pytest -p no:cacheprovider -m "not faults" "$@"
    ran=1
    [ "$which" = all ] || break
done
[ -n "$ran" ] || echo "No interpreter of the matrix is installed; nothing was run."
