#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# spdx.sh: the first lines of every source, script and build file name the licence.
set -eu
cd "$(dirname "$0")/../.."
bad=0
for file in CMakeLists.txt Makefile .ci/run $(find include src tools tests examples bench scripts cmake \
    -name '*.[ch]' -o -name '*.cpp' -o -name '*.sh' -o -name '*.cmake' -o -name '*.py' -o -name CMakeLists.txt | sort); do
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$file: no SPDX line"; bad=1; }
done
exit $bad
