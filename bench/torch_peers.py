# SPDX-License-Identifier: Apache-2.0
"""All-reduce of Tutti, NCCL and PyTorch's symmetric memory on real GPUs, in one run, in CUDA graphs.

    TUTTI_LIBRARY=build/libtutti.so PYTHONPATH=python torchrun --nproc-per-node 4 bench/torch_peers.py [--json FILE]

bf16 sum, out of place. A graph holds 200 calls (large messages: 20); a figure is the median over replays of the replay's time
divided by its calls, the slowest rank's, from a barrier on the devices on: when a process got to run does not count. Peers alternate within each size. Every peer's result is checked, in a graph of its own whose inputs
change with every call, before it is timed. NVLink multicast stays off (NCCL_NVLS_ENABLE=0, TORCH_SYMM_MEM_DISABLE_MULTICAST=1).
"""

import argparse
import json
import os
import statistics
import sys

os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")

import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory as symm

import tutti


def pattern(call, rank, count):
    """Small integers, so that sums over 8 ranks are exact in bf16: a function of call, rank and index."""
    index = torch.arange(count, device="cuda")
    return ((index * 3 + rank * 13 + call * 7) % 31 - 15).to(torch.bfloat16)


class Peer:
    """One way to reduce `src` into `dst`, both count bf16."""

    def __init__(self, name, src, dst, run):
        self.name, self.src, self.dst, self.run = name, src, dst, run


def peers_make(comm, group, count, world):
    src = torch.zeros(count, dtype=torch.bfloat16, device="cuda")
    dst = torch.zeros_like(src)

    def run_tutti():
        comm.all_reduce(src.data_ptr(), dst.data_ptr(), count, tutti.BF16,
                        stream=torch.cuda.current_stream().cuda_stream)

    in_place = torch.zeros_like(src)
    peers = [
        Peer("tutti", src, dst, run_tutti),
        Peer("nccl", in_place, in_place, lambda: dist.all_reduce(in_place)),
    ]
    if count * 2 >= 16 * world:
        shared = symm.empty(count, dtype=torch.bfloat16, device="cuda")
        symm.rendezvous(shared, group)
        result = torch.zeros_like(src)
        name = group.group_name

        peers.append(Peer("torch-one-shot", shared, result,
                          lambda: torch.ops.symm_mem.one_shot_all_reduce_out(shared, "sum", name, result)))
        peers.append(Peer("torch-two-shot", shared, shared,
                          lambda: torch.ops.symm_mem.two_shot_all_reduce_(shared, "sum", name)))
    return peers


def capture(body, times):
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for call in range(2):
            body(call)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for call in range(times):
                body(call)
    torch.cuda.synchronize()
    return graph


def check(peer, rank, world, count):
    """Wrong elements over a graph of calls with inputs of their own, replayed twice."""
    calls = 6
    inputs = [pattern(call, rank, count) for call in range(calls)]
    wanted = [sum(pattern(call, other, count).float() for other in range(world)).to(torch.bfloat16)
              for call in range(calls)]
    wrong = torch.zeros(1, dtype=torch.int64, device="cuda")

    def body(call):
        peer.src.copy_(inputs[call])
        peer.run()
        wrong.add_((peer.dst != wanted[call]).sum())

    graph = capture(body, calls)
    wrong.zero_()
    for _ in range(2):
        graph.replay()
    torch.cuda.synchronize()
    dist.all_reduce(wrong)
    return int(wrong)


def replay_us(comm, graph, calls):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    dist.barrier()
    torch.cuda.synchronize()
    comm.barrier(stream=torch.cuda.current_stream().cuda_stream)
    start.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    took = torch.tensor([start.elapsed_time(end) * 1e3 / calls], device="cuda")
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    return float(took)


def measure(comm, group, size_bytes, rank, world, replays):
    count = size_bytes // 2
    calls = 200 if size_bytes <= 1 << 20 else 20
    peers = peers_make(comm, group, count, world)
    wrong = {peer.name: check(peer, rank, world, count) for peer in peers}
    graphs = {}
    for peer in peers:
        peer.src.zero_()
        graphs[peer.name] = capture(lambda _call, peer=peer: peer.run(), calls)
    times = {peer.name: [] for peer in peers}
    for _ in range(replays):
        for peer in peers:
            times[peer.name].append(replay_us(comm, graphs[peer.name], calls))
    return [{"op": "all_reduce", "dtype": "bf16", "bytes": size_bytes, "ranks": world, "peer": name, "graph": True,
             "us_p50": statistics.median(values), "us_p99": max(values), "wrong": wrong[name]}
            for name, values in times.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    parser.add_argument("--replays", type=int, default=11)
    parser.add_argument("--largest", type=int, default=4 << 20, help="bytes")
    arguments = parser.parse_args()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    group = dist.group.WORLD

    def allgather(mine):
        parts = [None] * world
        dist.all_gather_object(parts, mine)
        return parts

    results = []
    with tutti.Comm(rank, world, device=torch.cuda.current_device(), backend="cuda", allgather=allgather) as comm:
        size_bytes = 1024
        if rank == 0:
            print(f"{torch.cuda.get_device_name()} x {world}, tutti {tutti.version()}, torch {torch.__version__}, "
                  f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}")
        while size_bytes <= arguments.largest:
            rows = measure(comm, group, size_bytes, rank, world, arguments.replays)
            results += rows
            if rank == 0:
                print(f"{size_bytes:9d}  " + "  ".join(f"{row['peer']} {row['us_p50']:7.2f}" for row in rows) +
                      f"  wrong {sum(row['wrong'] for row in rows)}", flush=True)
            size_bytes *= 2
        comm.status()
    if rank == 0 and arguments.json:
        with open(arguments.json + ".part", "w", encoding="utf-8") as file:
            json.dump({"device": torch.cuda.get_device_name(), "command": sys.argv, "results": results}, file, indent=1)
        os.replace(arguments.json + ".part", arguments.json)
    dist.destroy_process_group()
    return 1 if any(row["wrong"] for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
