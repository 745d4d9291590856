#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lengths.sh: a file has at most 700 lines, a function at most 70 from brace to brace.
set -eu
cd "$(dirname "$0")/../.."
find include src tools tests examples bench -name '*.[ch]' -o -name '*.cpp' | sort | xargs awk '
    FNR == 1 { opened = 0 }
    FNR == 701 { printf "%s: more than 700 lines\n", FILENAME; bad = 1 }
    /^\{/ { opened = FNR; name = before }
    /^\}/ && opened {
        if (FNR - opened + 1 > 70) {
            printf "%s:%d: a function of %d lines: %s\n", FILENAME, opened, FNR - opened + 1, name
            bad = 1
        }
        opened = 0
    }
    { before = $0 }
    END { exit bad }'
