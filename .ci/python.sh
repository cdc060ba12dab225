# Sourced by the other scripts: makes .venv with the project and an extra in it, and sets
# $venv to its directory of programs. Needs Python 3.10 or newer, nothing else.
cd "$(dirname "$0")/.." || exit 1

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$candidate" ] || continue
        command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
        echo "$candidate"
        return 0
    done
    echo "Python 3.10 or newer is needed and was not found." >&2
    return 1
}

make_venv() { # $1: the extra, or nothing
    if [ ! -x .venv/bin/python ] && [ ! -x .venv/Scripts/python.exe ]; then
        python=$(find_python) || exit 1
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            rm -rf .venv
            # Debian keeps venv in a package of its own.
            echo "installing Debian's python3-venv ..." >&2
            { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null 2>&1 || true
            "$python" -m venv .venv || exit 1
        fi
    fi
    venv=.venv/bin
    [ -d "$venv" ] || venv=.venv/Scripts
    "$venv/python" -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}" || exit 1
}
