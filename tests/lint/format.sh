#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# format.sh check|fix: every C file looks as clang-format writes it.
set -eu
cd "$(dirname "$0")/../.."
files=$(find include src tools tests examples bench \( -name '*.[ch]' -o -name '*.cpp' \) | sort)
case "${1:-check}" in
check)
    # shellcheck disable=SC2086
    bad=$(clang-format --dry-run $files 2>&1 | sed -n 's/^\([^:]*\):\([0-9]*\):.*clang-format.*/\1:\2/p' | sort -u -t: -k1,1)
    [ -z "$bad" ] || { echo "Not formatted (\`make format\` mends it), first lines:"; echo "$bad"; exit 1; }
    ;;
fix)
    # shellcheck disable=SC2086
    clang-format -i $files
    ;;
*)
    echo "format.sh: '$1' is not check or fix" >&2
    exit 2
    ;;
esac
