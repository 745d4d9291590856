# SPDX-License-Identifier: Apache-2.0
"""Collectives on PyTorch's memory, however PyTorch allocates it: eagerly, in one CUDA graph, and in several that share a pool.

    TUTTI_LIBRARY=.../libtutti.so PYTHONPATH=python python3 tests/gpu/torch_allocators.py [RANKS]

A process a GPU, for each of PyTorch's allocators: its own, its own with expandable segments, and the driver's pools
(cudaMallocAsync). Inputs change with every replay. An allocator that PyTorch itself cannot use on this machine is skipped, saying
why. Exit 0: all that ran is right; 77: nothing could run; 1: a failure.
"""

import os
import subprocess
import sys
import tempfile

ALLOCATORS = {"default": "", "expandable segments": "expandable_segments:True", "driver pools": "backend:cudaMallocAsync"}
COUNTS = [1, 7, 512, 5000, 40001, 300007]
REPLAYS = 20
SKIPPED = 77


def inputs(torch, call, rank, count):
    index = torch.arange(count, device="cuda")
    return ((index * 3 + rank * 13 + call * 7) % 31 - 15).to(torch.bfloat16)


def wanted(torch, call, world, count):
    return sum(inputs(torch, call, rank, count).float() for rank in range(world)).to(torch.bfloat16)


class Rank:
    def __init__(self, torch, tutti, comm, rank, world):
        self.torch, self.tutti, self.comm, self.rank, self.world = torch, tutti, comm, rank, world

    def reduce(self, src, dst):
        self.comm.all_reduce(src.data_ptr(), dst.data_ptr(), src.numel(), self.tutti.BF16,
                             stream=self.torch.cuda.current_stream().cuda_stream)

    def check(self, what, got, call):
        """Host code waits only now, when every rank has enqueued its part."""
        self.torch.cuda.current_stream().synchronize()
        self.comm.status()
        wrong = int((got != wanted(self.torch, call, self.world, got.numel())).sum())
        if wrong:
            sys.exit(f"rank {self.rank}: {what}, {got.numel()} elements, call {call}: {wrong} are wrong")

    def eager(self, call, count):
        src = inputs(self.torch, call, self.rank, count)
        dst = self.torch.empty_like(src)
        self.reduce(src, dst)
        self.check("eager", dst, call)

    def capture(self, count, pool):
        """One layer: memory of the graph's own holds what is reduced and what comes out.

        What a capture allocates with cudaMallocAsync may be freed in the same capture, or after a launch. In between PyTorch aborts
        (cudaErrorInvalidValue in free_impl), so `moved` has to go before the capture ends.
        """
        torch = self.torch
        given = torch.zeros(count, dtype=torch.bfloat16, device="cuda")
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            moved = given + 0
            result = torch.empty_like(moved)
            self.reduce(moved, result)
            del moved
            result = result + 0
        return graph, given, result

    def replay(self, captured, call):
        graph, given, result = captured
        given.copy_(inputs(self.torch, call, self.rank, given.numel()))
        graph.replay()
        self.check("replayed", result, call)

    def run(self):
        call = 0
        for count in COUNTS:
            self.eager(call := call + 1, count)
        pool = self.torch.cuda.graph_pool_handle()
        alone = [self.capture(count, None) for count in COUNTS]
        pooled = [self.capture(count, pool) for count in COUNTS]
        for _ in range(REPLAYS):
            for captured in alone + pooled:
                self.replay(captured, call := call + 1)
            self.eager(call := call + 1, COUNTS[call % len(COUNTS)])


def rank_main(rank, world, place):
    import torch

    import tutti
    torch.cuda.set_device(rank)
    try:
        torch.empty(1 << 20, device="cuda").fill_(1)
        torch.cuda.synchronize()
    except RuntimeError as error:
        print(f"PyTorch cannot allocate: {str(error).splitlines()[0]}")
        sys.exit(SKIPPED)
    with tutti.Comm(rank, world, device=rank, backend="cuda", rendezvous=f"unix:{place}", timeout_ms=60000) as comm:
        Rank(torch, tutti, comm, rank, world).run()


def allocator_run(name, setting, world):
    environment = dict(os.environ, PYTORCH_CUDA_ALLOC_CONF=setting, PYTORCH_ALLOC_CONF=setting)
    with tempfile.TemporaryDirectory() as place:
        ranks = [subprocess.Popen([sys.executable, __file__, "--rank", str(rank), str(world), place], env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                 for rank in range(world)]
        texts = [process.communicate(timeout=300)[0] for process in ranks]
    codes = [process.returncode for process in ranks]
    skipped = SKIPPED in codes
    print(f"{name}, {world} ranks: " + ("ok" if not any(codes) else "skipped" if skipped else f"failed, {codes}"))
    for text, code in zip(texts, codes):
        if code and (code == SKIPPED) == skipped:
            lines = text.strip().splitlines()
            said = [line for line in lines if "what()" in line or "Error" in line] or lines[-3:]
            print("  " + "\n  ".join(said[:4]))
            break
    return 0 if not any(codes) else SKIPPED if skipped else 1


def main():
    if len(sys.argv) > 4 and sys.argv[1] == "--rank":
        return rank_main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    try:
        import torch
    except ImportError:
        print("SKIP: this Python has no torch")
        return SKIPPED
    devices = torch.cuda.device_count()
    world = int(sys.argv[1]) if len(sys.argv) > 1 else min(devices, 8)
    if devices < max(world, 2):
        print(f"SKIP: {devices} CUDA devices, and each of {max(world, 2)} ranks wants one")
        return SKIPPED
    outcomes = [allocator_run(name, setting, world) for name, setting in ALLOCATORS.items()]
    return 1 if 1 in outcomes else 0 if 0 in outcomes else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
