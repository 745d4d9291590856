# SPDX-License-Identifier: Apache-2.0
"""images.py FILE..: no kernel in these AMD code objects uses scratch memory or spills vector registers.

Reads the metadata that the compiler leaves in each file (MessagePack; LLVM, User Guide for AMDGPU, code object V5 metadata).
"""

import sys

WANTED_ZERO = [b".private_segment_fixed_size", b".vgpr_spill_count"]


def numbers(data, key):
    """The unsigned integers that follow this key, wherever it stands."""
    at = data.find(key)
    while at >= 0:
        place = at + len(key)
        first = data[place]
        width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(first)
        yield first if width is None else int.from_bytes(data[place + 1:place + 1 + width], "big")
        at = data.find(key, place)


def main():
    failed = False
    kernels = 0
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            data = file.read()
        for key in WANTED_ZERO:
            found = list(numbers(data, key))
            kernels += len(found)
            if not found or any(found):
                print(f"{path}: {key.decode()[1:]} is {found if found else 'not there'}")
                failed = True
    print(f"{kernels // len(WANTED_ZERO)} kernels in {len(sys.argv) - 1} code objects")
    return 1 if failed or kernels == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
