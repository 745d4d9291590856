#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# needed.sh LIBRARY: the library needs libc, libm, libpthread and libdl, nothing else, and has a versioned soname.
set -eu
readelf -d "$1" | awk '
    /\(NEEDED\)/ { gsub(/[][]/, "", $NF); if ($NF !~ /^(lib(c|m|pthread|dl)\.so|ld-linux)/) { print "needs " $NF; bad = 1 } }
    /\(SONAME\)/ { gsub(/[][]/, "", $NF); soname = $NF }
    END { if (soname !~ /^libtutti\.so\.[0-9]+$/) { print "soname is \"" soname "\""; bad = 1 } exit bad }'
