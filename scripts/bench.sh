#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench.sh TUTTI: the comparison that this machine is made for. With two NVIDIA GPUs or more a bf16 sum from graphs beside NCCL
# on all of them, else an fp32 sum beside the MPI libraries.
set -eu
tutti=$1
devices=$("$tutti" info | awk '$1 == "backend" && $2 == "cuda" && $3 == "usable" { print $4 }')
if [ "${devices:-0}" -lt 2 ]; then
    exec "$tutti" bench --op all_reduce --dtype f32 --ranks 2 --sizes 1K:16M --peers openmpi,mpich
fi

# NVLink multicast needs what not every machine allows; none of the competitors uses it.
export NCCL_NVLS_ENABLE=0
if [ -z "${TUTTI_NCCL_LIBRARY:-}" ]; then
    nccl=$(python3 -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])' 2>/dev/null)/lib/libnccl.so.2 || true
    if [ -f "$nccl" ]; then # as PyTorch brings it
        export TUTTI_NCCL_LIBRARY="$nccl"
    fi
fi
[ "$devices" -le 8 ] || devices=8
exec "$tutti" bench --backend cuda --op all_reduce --dtype bf16 --ranks "$devices" --sizes 1K:16M --graph \
    --peers nccl,nccl-symmetric
