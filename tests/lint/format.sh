#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# format.sh check|fix: every C file looks as clang-format writes it.
set -eu
cd "$(dirname "$0")/../.."
case "${1:-check}" in
check) options='--dry-run -Werror' ;;
fix) options=-i ;;
*) echo "format.sh: '$1' is not check or fix" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086
find include src tools tests examples bench -name '*.[ch]' -o -name '*.cpp' | sort | xargs clang-format $options
