#!/bin/sh
# Runs every fuzz target from its seeds for SECONDS_EACH seconds (60 by default). Needs nightly and cargo-fuzz.
set -eu
cd "$(dirname "$0")"
for target in $(cargo +nightly fuzz list --fuzz-dir .); do
    mkdir -p "corpus/$target"
    echo "== $target"
    cargo +nightly fuzz run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="${SECONDS_EACH:-60}" -print_final_stats=1 -max_len=8192 2>&1 |
        grep -E '^(stat::number_of_executed_units|SUMMARY|Done|thread|artifact)|panicked|error' || true
done
