#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh TUTTI: the generated pages say what the program says, and excerpts of examples stand in the examples, word for word but
# for the indentation. An excerpt is a block of code under a line that names its file: <!-- examples/NAME -->.
set -eu
tutti=$1
cd "$(dirname "$0")/../.."
if ! "$tutti" info --settings --markdown | diff docs/settings.md -; then
    echo "docs/settings.md is out of date: make docs"
    exit 1
fi

awk '
function trimmed(line) {
    sub(/^[ \t]+/, "", line)
    sub(/[ \t]+$/, "", line)
    return line
}
function text_of(file,    line, all, got) {
    if (!(file in texts)) {
        all = "\n"
        while ((got = (getline line < file)) > 0) {
            all = all trimmed(line) "\n"
        }
        close(file)
        if (got < 0) {
            print FILENAME ":" FNR ": there is no " file
            bad = 1
        }
        texts[file] = all
    }
    return texts[file]
}
/^<!-- examples\// { file = $2; next }
/^```(c|python)$/ && !inside {
    inside = 1
    block = "\n"
    begun = FNR
    next
}
/^```$/ && inside {
    inside = 0
    if (file == "") {
        if (FILENAME ~ /capture\.md$/) {
            print FILENAME ":" begun ": this code names no example"
            bad = 1
        }
    } else {
        found++
        if (index(text_of(file), block) == 0) {
            print FILENAME ":" begun ": this code is not in " file
            bad = 1
        }
    }
    file = ""
    next
}
inside { block = block trimmed($0) "\n"; next }
file != "" {
    print FILENAME ":" FNR ": no code follows the name of " file
    bad = 1
    file = ""
}
END {
    if (found == 0) {
        print "no excerpt was found"
        bad = 1
    }
    exit bad
}' docs/*.md
