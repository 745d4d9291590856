#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that this machine has what a target of the Makefile needs:
#
#     scripts/require.sh build|test|format
#
# As root on Debian it installs what is missing; otherwise it stops with the one line to type.
# TUTTI_INSTALL=never keeps it from installing anything.
set -eu

missing_names=
missing_packages=

# lacks "name for people" "Debian packages"
lacks() {
    missing_names="$missing_names${missing_names:+, }$1"
    missing_packages="$missing_packages${missing_packages:+ }$2"
}

need_command() { command -v "$1" >/dev/null 2>&1 || lacks "$1" "$2"; }
need_module() { pkg-config --exists "$1" 2>/dev/null || lacks "$2" "$3"; }

# A compiler alone is not enough: without libc's headers nothing compiles.
need_compiler() {
    if ! command -v "$1" >/dev/null 2>&1; then
        lacks "$1" "$3 libc6-dev"
    elif ! printf '#include <stdio.h>\n' | "$1" -x "$2" -fsyntax-only - 2>/dev/null; then
        lacks "the headers of libc" libc6-dev
    fi
}

need_build() {
    need_compiler "${CC:-gcc}" c gcc
    need_command cmake cmake
    need_command pkg-config pkg-config
    need_module openblas OpenBLAS libopenblas-dev
    need_module libcjson cJSON libcjson-dev
}

need_test() {
    need_build
    need_compiler "${CXX:-g++}" c++ g++
    need_command clang-tidy clang-tidy
    need_command clang-format clang-format
}

# Asks for everything the word in $1 stands for.
look() {
    missing_names=
    missing_packages=
    case "$1" in
    build) need_build ;;
    test) need_test ;;
    format) need_command clang-format clang-format ;;
    *)
        echo "require.sh: '$1' is not build, test or format" >&2
        exit 2
        ;;
    esac
}

may_install() {
    [ "${TUTTI_INSTALL:-auto}" != never ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

look "${1:-build}"
[ -n "$missing_names" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing: $missing_names. Install them with this system's package manager (Debian's names: $missing_packages)." >&2
    exit 1
fi
line="apt-get install -y --no-install-recommends $missing_packages"
if ! may_install; then
    echo "Missing: $missing_names. Type:  sudo $line" >&2
    exit 1
fi

echo "Missing: $missing_names. Installing: $missing_packages"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Lists that are absent or old name packages that the mirror no longer holds: then update and try once more.
# shellcheck disable=SC2086
if ! $line >"$log" 2>&1 && ! { apt-get update >>"$log" 2>&1 && $line >>"$log" 2>&1; }; then
    tail -n 5 "$log" >&2
    echo "Could not install: $missing_packages. The line was:  $line" >&2
    exit 1
fi
look "${1:-build}"
if [ -n "$missing_names" ]; then
    echo "Installed $missing_packages, but still missing: $missing_names" >&2
    exit 1
fi
