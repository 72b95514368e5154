#!/bin/sh
# Validates one event of every kind against the published OCSF schema, and looks at deploy/alerts.yml. With
# `--trim`, writes the part of the schema that `cargo test` validates with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/ocsf-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
exec "$venv/bin/python" -B "$here/check.py" "$root" "$@"
