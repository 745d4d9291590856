#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# installed.sh BUILD pkg-config|cmake: a C and a C++ program are built against an installed tree, and run. The
# tree is moved after the installation: nothing in it may name the place where it was made.
set -eu
build=$1
how=$2
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/made" >"$work/install.log"
mv "$work/made" "$work/moved"
prefix=$work/moved
lib=$(dirname "$(find "$prefix" -name 'libtutti.so')")
if grep -rlI -e "$work/made" -e "$build" "$prefix"; then
    echo "the files above name the build or the first prefix"
    exit 1
fi

case "$how" in
pkg-config)
    export PKG_CONFIG_PATH="$lib/pkgconfig"
    # shellcheck disable=SC2046
    "${CC:-gcc}" -std=c99 -D_GNU_SOURCE examples/first.c $(pkg-config --cflags --libs tutti) -o "$work/first"
    # shellcheck disable=SC2046
    "${CC:-gcc}" -D_GNU_SOURCE examples/graph.c $(pkg-config --cflags --libs tutti) -pthread -o "$work/graph"
    # shellcheck disable=SC2046
    "${CXX:-g++}" -std=c++11 tests/install/consumer/user.cpp $(pkg-config --cflags --libs tutti) -o "$work/user"
    ;;
cmake)
    cmake -S tests/install/consumer -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" \
        -DEXAMPLES="$PWD/examples" >"$work/configure.log"
    cmake --build "$work/consumer" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
    cp "$work/consumer/first" "$work/consumer/graph" "$work/consumer/user" "$work/"
    ;;
esac
for program in first graph user; do
    LD_LIBRARY_PATH="$lib" "$work/$program"
done

# The documents that the headers and the examples name, and what they quote.
[ -f "$(find "$prefix" -name runner.md)" ] || { echo "docs/runner.md is not installed"; exit 1; }
[ -f "$(find "$prefix" -name runner.c)" ] || { echo "examples/runner.c is not installed"; exit 1; }

# The command finds the library beside it without help.
if [ -x "$build/bin/tutti" ]; then
    "$prefix/bin/tutti" info >"$work/info"
    [ -s "$work/info" ]
fi

DESTDIR="$work/stage" cmake --install "$build" --prefix /usr >"$work/install.log"
[ -f "$work/stage/usr/include/tutti/tutti.h" ] || { echo "DESTDIR is not respected"; exit 1; }
