#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tidy.sh BUILD: clang-tidy over the library and the tools, with the flags they are built with.
set -eu
cd "$(dirname "$0")/../.."
build=$1
[ -f "$build/compile_commands.json" ] || { echo "no compile_commands.json in $build" >&2; exit 1; }
# A file that several programs compile would be looked at as often: its first entry is enough.
once=$build/tidy
mkdir -p "$once"
awk 'BEGIN { print "[" }
    /^[{]/ { entry = "" }
    /^ / { entry = entry $0 "\n" }
    /^ *"file":/ { first = !seen[$0]++ }
    /^[}]/ && first { printf "%s{\n%s}", comma, entry; comma = ",\n" }
    END { print "\n]" }' "$build/compile_commands.json" >"$once/compile_commands.json"
# A line says how many warnings of system headers were left out: noise.
find src tools examples -name '*.c' | sort |
    xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$once" --warnings-as-errors='*' 2>&1 |
    { grep -v -e '^[0-9]* warnings\{0,1\} generated' -e '^$' || true; } >"$build/tidy.log"
cat "$build/tidy.log"
! grep -q -e 'error:' -e 'Error' "$build/tidy.log"
