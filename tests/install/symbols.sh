#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols.sh LIBRARY: the functions that the headers declare and those that the library exports are the same.
set -eu
library=$1
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat include/tutti/*.h | grep -v '#include "tutti' | "${CC:-gcc}" -E -P -x c - |
    grep -v '^typedef.*(\*' | grep -o '\btutti_[a-z0-9_]* *(' | tr -d ' (' | sort -u >"$work/declared"
nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort -u >"$work/exported"
[ -s "$work/declared" ] || { echo "no declarations found"; exit 1; }
if ! diff "$work/declared" "$work/exported" >"$work/difference"; then
    sed -n -e 's/^< /declared, not exported: /p' -e 's/^> /exported, not declared: /p' "$work/difference"
    exit 1
fi
echo "$(wc -l <"$work/declared") functions"
