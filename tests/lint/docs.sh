#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh TUTTI: the generated pages say what the program says.
set -eu
tutti=$1
cd "$(dirname "$0")/../.."
if ! "$tutti" info --settings --markdown | diff docs/settings.md -; then
    echo "docs/settings.md is out of date: make docs"
    exit 1
fi
