# SPDX-License-Identifier: Apache-2.0
"""Tutti in PyTorch's CUDA graphs: several graphs of one memory pool, a commit for all of them, memory that comes and goes.

    torchrun --nproc-per-node 2 examples/capture_torch.py

Each process takes the GPU of its rank. Started without torchrun, it is one rank of one. Needs PyTorch with CUDA: skipped (exit
77) where that is missing.
"""

import os
import sys

BUCKETS = [1, 4, 8, 16]
WIDTH = 1 << 20
STEPS = 5


class Engine:
    def __init__(self, torch, tutti, rank, world):
        self.torch, self.tutti, self.rank, self.world = torch, tutti, rank, world
        torch.cuda.set_device(rank)
        self.comm = tutti.Comm(rank, world, device=rank, rendezvous="env" if world > 1 else None)
        self.pool = torch.cuda.graph_pool_handle()
        self.graphs, self.inputs, self.outputs = {}, {}, {}

    def layer(self, x):
        """Any tensor will do, at any time: nothing is registered."""
        partial = x * (self.rank + 1)
        full = self.torch.empty_like(partial)
        self.comm.all_reduce(partial.data_ptr(), full.data_ptr(), partial.numel(), self.tutti.BF16,
                             stream=self.torch.cuda.current_stream().cuda_stream)
        return full

    def capture(self):
        """One graph for each bucket, all in one pool, the largest first; one commit for all of them."""
        for rows in sorted(BUCKETS, reverse=True):
            self.inputs[rows] = self.torch.zeros(rows, WIDTH, dtype=self.torch.bfloat16, device="cuda")
            self.torch.cuda.synchronize()
            graph = self.torch.cuda.CUDAGraph()
            with self.torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.outputs[rows] = self.layer(self.inputs[rows])
            self.graphs[rows] = graph
        self.comm.commit()

    def step(self, rows, value):
        self.inputs[rows].fill_(value)
        self.graphs[rows].replay()
        self.torch.cuda.current_stream().synchronize()
        self.comm.status()
        wanted = value * self.world * (self.world + 1) // 2
        wrong = int((self.outputs[rows] != wanted).sum())
        if wrong:
            sys.exit(f"rank {self.rank}: {wrong} elements of {rows} rows are wrong")

    def pause_and_resume(self):
        """Around whatever changes the pages behind the tensors' addresses (a memory saver's pause and resume)."""
        for segment in self.torch.cuda.memory_snapshot():  # also of the graphs' pool, with what the graphs keep in it
            self.comm.suspend(segment["address"], segment["total_size"])
        # Here the saver unmaps, and later maps again; then weights are loaded or broadcast.
        self.comm.resume()


def main():
    try:
        import torch
    except ImportError:
        print("skipped: no PyTorch here")
        return 77
    if not torch.cuda.is_available():
        print("skipped: PyTorch finds no GPU")
        return 77
    import tutti

    engine = Engine(torch, tutti, int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    engine.capture()
    for step in range(STEPS):
        for rows in BUCKETS:
            engine.step(rows, step + rows)
        engine.pause_and_resume()
    stats = engine.comm.stats()
    if engine.rank == 0:
        print(f"{stats['committed_calls']} captured calls are committed, {stats['staged_for_good_calls']} staged; every "
              "element was right")
    engine.graphs.clear()  # with the graphs goes what their calls held
    engine.comm.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
