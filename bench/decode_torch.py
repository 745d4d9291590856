# SPDX-License-Identifier: Apache-2.0
"""Decode steps of whole models in PyTorch, tensor-parallel, from CUDA graphs, with Tutti and with what there is beside it.

    TUTTI_LIBRARY=build/libtutti.so PYTHONPATH=python python3 bench/decode_torch.py --ranks 4 --json decode-4.json
    TUTTI_LIBRARY=build/libtutti.so PYTHONPATH=python python3 bench/decode_torch.py --device cpu --backend host --ranks 2 --models tiny

A process a GPU (or under torchrun). One module, bench/decode/model.py, with interchangeable sums: bench/decode/ways.py. A step decodes
one token of each of `batch` sequences whose context is `--context` long, and ends with each rank's share of the logits. A figure is
the median over rounds, in which all ways take turns, of the slowest rank's time for `--steps` replays back to back, from a barrier
on the devices on, divided by them. The share of communication is what a step takes longer than the same step without any sum.

Checked first, with other tokens than those captured, against steps whose sums are gathered and added in fp32 in rank order: Tutti's
logits and hidden states bit for bit, on all ranks; every other way's logits within what roundings become in a deep model; that the
step without sums fails this check; and the fused operations against PyTorch's own. NVLink multicast stays off
(NCCL_NVLS_ENABLE=0, TORCH_SYMM_MEM_DISABLE_MULTICAST=1).
"""

import argparse
import ctypes
import dataclasses
import gc
import hashlib
import json
import os
import socket
import statistics
import sys
import time

os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")

SKIPPED = 77
# Of relative distances of logits, without experts and with them: ways round in orders of their own, random models amplify that, and
# where two experts nearly tie a rounding decides.
TOLERANCE = {False: 0.05, True: 0.1}
SIZES_OF_A_START = list(range(36, 0, -1))
NODE_KINDS = ["kernel", "memcpy", "memset", "host", "graph", "empty", "wait", "record"]


class Step:
    """One decode step of a batch with one way: from a graph on a GPU, called on a CPU."""

    def __init__(self, bench, rows, way, pool):
        self.bench, self.rows, self.way, self.graph = bench, rows, way, None
        if bench.on_device:
            self.graph = bench.torch.cuda.CUDAGraph()
            self.outputs = bench.capture(self.graph, rows, way, pool)

    def run(self):
        if self.graph is not None:
            self.graph.replay()
        else:
            self.outputs = self.bench.forward(self.rows, self.way)


class Bench:
    """One rank's model, its ways and its place among the ranks."""

    def __init__(self, options, torch, tutti, rank, world, comm, host_group):
        self.options, self.torch, self.rank, self.world, self.comm, self.host_group = options, torch, rank, world, comm, host_group
        self.on_device = options.device == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if self.on_device else torch.device("cpu")
        self.tutti = tutti

    def load(self, name):
        from decode import model, ways
        torch, rows = self.torch, max(self.options.batches + (SIZES_OF_A_START if self.options.start else []))
        self.shape = model.SHAPES[name]
        if self.options.layers is not None:
            self.shape = dataclasses.replace(self.shape, layers=self.options.layers)
        shard = model.Shard(self.shape, self.rank, self.world, rows, self.options.context, self.device)
        self.plain, self.fused = model.Plain, None
        if self.options.fused:
            from decode import fused
            self.fused = fused.Fused
        self.model = model.Decoder(shard, self.fused or self.plain)
        self.setting = ways.Setting(self.rank, self.world, self.device, self.shape.hidden, rows, self.comm, self.tutti)
        wanted = ways.GPU_WAYS if self.on_device else ways.CPU_WAYS
        self.ways = {way.name: way(self.setting) for way in wanted if way.name in self.options.ways + ["none", "tutti"]}
        self.exact = ways.Exact(self.setting)
        self.tokens = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.positions = torch.full_like(self.tokens, self.options.context - 1)
        self.draw_tokens(1)

    def unload(self):
        for way in self.ways.values():
            way.close()
        self.setting.close()
        self.model = self.ways = self.exact = self.setting = None
        gc.collect()
        if self.on_device:
            self.torch.cuda.empty_cache()

    def draw_tokens(self, seed):
        drawn = self.torch.randint(self.shape.vocabulary, self.tokens.shape, generator=self.torch.Generator().manual_seed(seed))
        self.tokens.copy_(drawn)

    def forward(self, rows, way):
        with self.torch.inference_mode():
            return self.model(self.tokens[:rows], self.positions[:rows], way)

    def capture(self, graph, rows, way, pool):
        # thread_local: a thread of PyTorch's looks after NCCL with calls that a global capture forbids.
        with self.torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            return self.forward(rows, way)

    def pool(self):
        """For graphs that live and die together: PyTorch wants a new one once all graphs of a pool are gone."""
        return self.torch.cuda.graph_pool_handle() if self.on_device else None

    def synchronize(self):
        if self.on_device:
            self.torch.cuda.synchronize()

    def gather(self, mine):
        """Everyone's, in rank order."""
        everyone = [None] * self.world
        self.torch.distributed.all_gather_object(everyone, mine, group=self.host_group)
        return everyone

    def say(self, text):
        if self.rank == 0:
            print(text, flush=True)

    # What must be right before it is timed.

    def warm_up(self, rows):
        """Compiles, connects and chooses what captures must not."""
        for way in [*self.ways.values(), self.exact]:
            self.forward(rows, way)
            self.synchronize()

    def distance(self, outputs, wanted):
        """|ours - wanted| / |wanted| over all ranks' logits."""
        ours, wanted = outputs[0].float(), wanted[0].float()
        sums = [float((ours - wanted).square().sum()), float(wanted.square().sum())]
        apart, size = (sum(part) for part in zip(*self.gather(sums)))
        return (apart / size) ** 0.5 if size > 0 else float("nan")

    def check_fused(self):
        """The fused operations against PyTorch's own, the whole model, eagerly."""
        rows = min(3, len(self.tokens))
        ours = [part.clone() for part in self.forward(rows, self.exact)]
        self.model.use(self.plain)
        wanted = self.forward(rows, self.exact)
        self.model.use(self.fused)
        return self.distance(ours, wanted)

    def check(self, steps):
        """{way: (distance from the exact logits, same bits as those, same bits on all ranks)}, for tokens that no capture has seen."""
        self.draw_tokens(1000 + next(iter(steps.values())).rows)
        self.synchronize()
        found, outputs = {}, {}
        for name, step in steps.items():
            step.run()
            self.synchronize()
            outputs[name] = [part.clone() for part in step.outputs]
        self.comm.status()
        wanted = outputs.pop("exact")
        for name, ours in outputs.items():
            alike = self.gather(all(self.torch.equal(part, other) for part, other in zip(ours, wanted)))
            bits = ours[1].contiguous().view(self.torch.int16).cpu().numpy().tobytes()
            digests = self.gather(hashlib.sha256(bits).digest())
            found[name] = (self.distance(ours, wanted), all(alike), len(set(digests)) == 1)
        return found

    # Time.

    def seconds(self, step, times):
        """This rank's, of one step."""
        torch = self.torch
        self.synchronize()
        torch.distributed.barrier(group=self.host_group)
        if not self.on_device:
            before = time.perf_counter()
            for _ in range(times):
                step.run()
            return (time.perf_counter() - before) / times
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.comm.barrier(stream=torch.cuda.current_stream().cuda_stream)
        start.record()
        for _ in range(times):
            step.run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / times

    def measure(self, name, rows):
        """One batch size: a result for every way."""
        self.warm_up(rows)
        pool = self.pool()
        steps = {way.name: Step(self, rows, way, pool) for way in self.ways.values()}
        for way in self.ways.values():
            way.commit()
        checked = self.check(steps | {"exact": Step(self, rows, self.exact, pool)})
        times = {way: [] for way in steps}
        for step in steps.values():
            self.seconds(step, 2)
        for _ in range(self.options.rounds):
            for way, step in steps.items():
                times[way].append(self.seconds(step, self.options.steps))
        times = {way: [max(ranks) for ranks in zip(*self.gather(mine))] for way, mine in times.items()}
        return [self.result(name, rows, way, times, checked[way]) for way in steps]

    def result(self, name, rows, way, times, checked):
        took, alone = statistics.median(times[way]), statistics.median(times["none"])
        sums = self.model.reductions
        return {"model": name, "ranks": self.world, "batch": rows, "context": self.options.context, "way": way,
                "us_p50": took * 1e6, "us_min": min(times[way]) * 1e6, "us_max": max(times[way]) * 1e6,
                "tokens_per_second": rows / took, "communication_share": 1 - alone / took, "sums": sums,
                "sum_bytes": rows * self.shape.hidden * 2, "us_per_sum": (took - alone) * 1e6 / sums,
                "distance": checked[0], "exact": checked[1], "same_bits": checked[2]}

    def nodes(self, rows):
        """{way: {kind of node: how many}} in the graph of a step, on this rank."""
        driver, found = ctypes.CDLL("libcuda.so.1"), {}
        for name, way in self.ways.items():
            graph = self.torch.cuda.CUDAGraph(keep_graph=True)
            self.capture(graph, rows, way, self.pool())
            handle, count, kinds = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_size_t(), {}
            driver.cuGraphGetNodes(handle, None, ctypes.byref(count))
            nodes = (ctypes.c_void_p * count.value)()
            driver.cuGraphGetNodes(handle, nodes, ctypes.byref(count))
            for node in nodes:
                kind = ctypes.c_int()
                driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind))
                label = NODE_KINDS[kind.value] if kind.value < len(NODE_KINDS) else str(kind.value)
                kinds[label] = kinds.get(label, 0) + 1
            found[name] = kinds
        return found

    def start(self, name):
        """What capturing 36 sizes takes at a start, the slowest rank's, when everything is compiled and connected."""
        for rows in SIZES_OF_A_START:
            self.forward(rows, self.ways["none"])
        found = []
        for way in self.ways.values():
            self.forward(max(SIZES_OF_A_START), way)
            pool, graphs = self.pool(), []
            self.synchronize()
            self.torch.distributed.barrier(group=self.host_group)
            before = time.perf_counter()
            for rows in SIZES_OF_A_START:
                graphs.append(self.torch.cuda.CUDAGraph())
                self.capture(graphs[-1], rows, way, pool)
            self.synchronize()
            captured = time.perf_counter()
            self.torch.distributed.barrier(group=self.host_group)
            together = time.perf_counter()
            way.commit()
            spent = self.gather((captured - before, time.perf_counter() - together))
            found.append({"model": name, "ranks": self.world, "way": way.name, "sizes": len(graphs),
                          "capture_ms": max(part[0] for part in spent) * 1e3, "commit_ms": max(part[1] for part in spent) * 1e3})
            del graphs
        return found

    def run(self, name):
        """Everything about one model: {"results", "start", "nodes", "fused"}."""
        before = time.perf_counter()
        self.load(name)
        rows = max(self.options.batches)
        self.warm_up(rows)
        self.say(f"{name}, {self.world} ranks: loaded and warm after {time.perf_counter() - before:.1f} s")
        report = {"results": [], "start": [], "nodes": {}, "fused": {}}
        if self.fused is not None:
            report["fused"][name] = self.check_fused()
            self.say(f"  fused operations against plain ones: {report['fused'][name]:.2g}")
        for rows in self.options.batches:
            results = self.measure(name, rows)
            report["results"] += results
            self.say(f"  batch {rows:3d}: " + "  ".join(
                f"{row['way']} {row['us_p50']:.0f} us ({'exact' if row['exact'] else format(row['distance'], '.4f')})"
                for row in results))
        if self.on_device and self.options.start:
            report["nodes"][name] = self.nodes(1)
            report["start"] = self.start(name)
            for row in report["start"]:
                self.say(f"  {row['sizes']} captures, {row['way']}: {row['capture_ms']:.0f} ms, commit {row['commit_ms']:.1f} ms, "
                         f"nodes {report['nodes'][name][row['way']]}")
        self.unload()
        return report


def failures(report):
    """What is wrong, a sentence each."""
    from decode import model
    found = []
    for row in report["results"]:
        where = f"{row['model']}, batch {row['batch']}, {row['way']}"
        limit = TOLERANCE[model.SHAPES[row["model"]].experts > 0]
        if row["way"] == "none":
            if row["ranks"] > 1 and not row["distance"] > limit:
                found.append(f"{where}: logits without any sum are as good as with it: the check is blind")
        elif not row["distance"] <= limit:
            found.append(f"{where}: logits are {row['distance']:.4f} from the exact ones, more than {limit}")
        if row["way"] == "tutti" and not row["exact"]:
            found.append(f"{where}: not the bits of sums in fp32 and rank order")
        if row["way"] == "tutti" and not row["same_bits"]:
            found.append(f"{where}: ranks do not have the same bits")
    for name, distance in report["fused"].items():
        if not distance <= TOLERANCE[model.SHAPES[name].experts > 0]:
            found.append(f"{name}: the fused operations are {distance:.4f} from the plain ones")
    return found


def write(path, options, torch, tutti, world, report):
    on_device = options.device == "cuda"
    head = {"device": torch.cuda.get_device_name() if on_device else "cpu", "ranks": world, "command": sys.argv,
            "tutti": tutti.version(), "torch": torch.__version__,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())) if on_device else None,
            "rounds": options.rounds, "steps": options.steps, "context": options.context}
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(head | report, file, indent=1)
    os.replace(path + ".part", path)


def process(index, options, world, meeting):
    """One rank. Returns its exit code; under torch.multiprocessing, ends with it."""
    import torch
    import torch.distributed as dist

    import tutti
    rank = int(os.environ.get("RANK", index))
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", index)))
    else:
        torch.set_num_threads(1)
    dist.init_process_group("nccl" if options.device == "cuda" else "gloo", init_method=meeting, rank=rank, world_size=world)
    host_group = dist.new_group(backend="gloo")

    def allgather(mine):
        parts = [None] * world
        dist.all_gather_object(parts, mine, group=host_group)
        return parts

    total = {"results": [], "start": [], "nodes": {}, "fused": {}}
    with tutti.Comm(rank, world, device=torch.cuda.current_device() if options.device == "cuda" else 0, backend=options.backend,
                    allgather=allgather) as comm:
        bench = Bench(options, torch, tutti, rank, world, comm, host_group)
        for name in options.models:
            report = bench.run(name)
            for key, part in report.items():
                total[key] = total[key] | part if isinstance(part, dict) else total[key] + part
            if rank == 0 and options.json:
                write(options.json, options, torch, tutti, world, total)
        comm.status()
    bad = failures(total)
    if rank == 0:
        print("\n".join(bad) if bad else "all checks passed", flush=True)
    dist.destroy_process_group()
    if bad:
        sys.exit(1)


def arguments_parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, help="processes to start; left out: one for each GPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backend", help="Tutti's; left out: cuda, or host")
    parser.add_argument("--models", type=lambda text: text.split(","), default=["llama-3-8b", "qwen3-30b-a3b"])
    parser.add_argument("--ways", type=lambda text: text.split(","), help="left out: all; none and tutti are always there",
                        default=["torch.distributed", "nccl", "nccl-symmetric", "torch-one-shot", "torch-two-shot"])
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--context", type=int, default=1024, help="tokens in the cache of each sequence")
    parser.add_argument("--layers", type=int, help="of every model, to try something out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--no-start", dest="start", action="store_false", help="without the captures of 36 sizes")
    parser.add_argument("--plain", dest="fused", action="store_false", help="PyTorch's own operations only")
    parser.add_argument("--json", help="the file to write")
    options = parser.parse_args()
    options.backend = options.backend or {"cuda": "cuda", "cpu": "host"}[options.device]
    options.fused = options.fused and options.device == "cuda"
    return parser, options


def main():
    parser, options = arguments_parse()
    try:
        import numpy  # noqa: F401 (torch.distributed wants it)
        import torch
    except ImportError as missing:
        print(f"skipped: {missing}")
        return SKIPPED
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch finds no GPU")
        return SKIPPED
    from decode import model
    for name in options.models:
        if name not in model.SHAPES:
            parser.error(f"no model {name}: there are {', '.join(model.SHAPES)}")
    if "RANK" in os.environ:
        process(0, options, int(os.environ["WORLD_SIZE"]), "env://")
        return 0
    world = options.ranks or (torch.cuda.device_count() if options.device == "cuda" else 2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        meeting = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    import torch.multiprocessing as processes
    try:
        processes.spawn(process, (options, world, meeting), nprocs=world)
    except processes.ProcessExitedException as ended:  # it has said why
        return ended.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
