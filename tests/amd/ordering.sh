#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ordering.sh CLANG: what the compiler makes of each memory access of kernels/portable.h, for both AMD targets, held against the
# code sequences of LLVM's AMDGPU memory model (docs/amd.md).
set -eu
cd "$(dirname "$0")/../.."
command -v "$1" > /dev/null || { echo "SKIP: no $1"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The memory instructions of one kernel, "|" between them.
instructions() {
    sed -n "/^$1:/,/s_endpgm/p" "$work/$target.s" |
        grep -E '^[[:space:]]+(global_|flat_|buffer_|scratch_|s_barrier|s_waitcnt vmcnt)' | sed 's/^[[:space:]]*//' |
        tr '\n' '|'
}

failed=0
# expect KERNEL PATTERN: an extended regular expression for its instructions.
expect() {
    got=$(instructions "$1")
    if ! echo "$got" | grep -Eq "^$2\$"; then
        echo "$target $1: $got"
        echo "    is not what the memory model asks for: $2"
        failed=1
    fi
}

for target in gfx90a gfx942; do
    "$1" -x hip --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -std=c++17 -O3 -ffp-contract=off \
        --offload-arch=$target -Isrc -S -o "$work/$target.s" tests/amd/ordering.hip
    case $target in
    gfx90a) load=' glc' store='' returns=' glc' agent=' glc' add='' release='buffer_wbl2' acquire='buffer_invl2\|buffer_wbinvl1_vol' ;;
    gfx942) load=' sc0 sc1' store=' sc0 sc1' returns=' sc0 sc1' agent=' sc1' add='' release='buffer_wbl2 sc0 sc1' acquire='buffer_inv sc0 sc1' ;;
    esac
    w='s_waitcnt vmcnt\(0\)\|'
    [ $target = gfx942 ] && counter_returns=' sc0' || counter_returns=' glc'
    expect load_vector "global_load_dwordx2 [^|]*\]$load\|global_load_dwordx2 [^|]* offset:8$load\|${w}global_store.*"
    expect store_vector "global_store_dwordx2 [^|]*\]$store\|global_store_dwordx2 [^|]* offset:8$store\|"
    expect load_pair "global_load_dwordx2 [^|]*\]$load\|${w}global_store.*"
    expect store_pair "global_store_dwordx2 [^|]*\]$store\|"
    expect load_word "global_load_dword [^|]*\]$load\|${w}global_store.*"
    expect store_word "global_store_dword [^|]*\]$store\|"
    expect store_release "global_store_dword [^|]*\|$release\|${w}global_store_dword [^|]*\]$store\|"
    expect store_release_pair "global_store_dword [^|]*\|$release\|${w}global_store_dwordx2 [^|]*\]$store\|"
    expect load_acquire_pair "global_load_dwordx2 [^|]*\]$load\|$w$acquire\|global_load_dwordx2 [^|]*\|${w}global_store.*"
    expect fence "global_store_dword [^|]*\|$release\|$w$acquire\|global_store_dword [^|]*\]$store\|"
    expect claim "global_atomic_cmpswap [^|]*\]$returns\|${w}global_store.*"
    expect load_counter "global_load_dwordx2 [^|]*\]$agent\|${w}global_store.*"
    expect add_counter "global_atomic_add_x2 [^|]*\]$add\|"
    expect fetch_add_counter "global_atomic_add_x2 [^|]*\]$counter_returns\|${w}global_store.*"
    expect sync_stored "global_store_dword [^|]*\|${w}s_barrier\|global_atomic_add_x2 [^|]*\]$add\|"
done
[ $failed = 0 ] && echo "every access has the form that the memory model asks for"
exit $failed
