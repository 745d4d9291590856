#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# headers.sh: each public header compiles alone, as C99 and as C++11, with pedantic warnings.
set -eu
cd "$(dirname "$0")/../.."
warnings='-Wall -Wextra -Wpedantic -pedantic-errors -Wconversion -Wshadow -Werror -fsyntax-only'
for header in include/tutti/*.h; do
    line="#include \"tutti/$(basename "$header")\""
    # shellcheck disable=SC2086
    echo "$line" | "${CC:-gcc}" -x c -std=c99 -Wstrict-prototypes -Iinclude $warnings -
    # shellcheck disable=SC2086
    echo "$line" | "${CXX:-g++}" -x c++ -std=c++11 -Wold-style-cast -Iinclude $warnings -
done
