#!/bin/sh
# Replays envelope/vectors with the reader in Python, and checks a sample of an audit log: `tests/interop/run.sh`, or with files to replay only these.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/interop-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
"$venv/bin/python" "$here/log.py" self-test "$here/log"
exec "$venv/bin/python" -B "$here/reader.py" "$root/envelope/vectors" "$@"
