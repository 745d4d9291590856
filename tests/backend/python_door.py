# SPDX-License-Identifier: Apache-2.0
"""The Python door on the host backend: collectives, memory, graphs, commits, sessions, suspend and resume, counters, the runner.

    TUTTI_LIBRARY=.../libtutti.so PYTHONPATH=python python3 tests/backend/python_door.py

Two ranks, a thread each: calls of the library leave Python's lock to the others.
"""

import ctypes
import os
import sys
import tempfile
import threading

import tutti

WORLD = 2
COUNT = 30000
Floats = ctypes.c_float * COUNT
library = ctypes.CDLL(os.environ["TUTTI_LIBRARY"])
library.tutti_host_graph_destroy.restype = library.tutti_host_stream_destroy.restype = None


def good(status):
    if status != 0:
        raise tutti.Error(status)


class Rank:
    def __init__(self, rank, meeting):
        self.rank, self.calls = rank, 0
        self.comm = tutti.Comm(rank, WORLD, backend="host", rendezvous=meeting, flags=tutti.DIRECT_FD)
        self.stream = ctypes.c_void_p()
        good(library.tutti_host_stream_create(ctypes.byref(self.stream)))
        self.src, self.dst = Floats(), Floats()

    def reduce(self):
        self.comm.all_reduce(ctypes.addressof(self.src), ctypes.addressof(self.dst), COUNT, tutti.F32,
                             stream=self.stream.value)

    def capture(self):
        graph = ctypes.c_void_p()
        good(library.tutti_host_capture_begin(self.stream, 1))
        self.reduce()
        good(library.tutti_host_capture_end(self.stream, ctypes.byref(graph)))
        return graph

    def replay(self, graph):
        """With inputs that no other call has."""
        self.calls += 1
        for index in range(0, COUNT, 97):
            self.src[index] = self.calls * 100 + index % 50 + self.rank
        good(library.tutti_host_graph_launch(graph, self.stream))
        good(library.tutti_host_stream_synchronize(self.stream))
        self.comm.status()
        for index in range(0, COUNT, 97):
            wanted = WORLD * (self.calls * 100 + index % 50) + 1
            assert self.dst[index] == wanted, f"element {index} of call {self.calls} is {self.dst[index]}, not {wanted}"

    def check_stats(self, **wanted):
        stats = self.comm.stats()
        for name, value in wanted.items():
            assert stats[name] == value, f"{name} is {stats[name]}, not {value}: {stats}"
        return stats

    def commits(self):
        graph = self.capture()
        self.check_stats(pending_calls=1, commits=0, captured=1)
        self.replay(graph)
        self.comm.commit()
        stats = self.check_stats(pending_calls=0, commits=1)
        assert stats["committed_calls"] + stats["staged_for_good_calls"] == 1, stats
        self.replay(graph)
        self.comm.suspend(ctypes.addressof(self.src), ctypes.sizeof(self.src))
        self.comm.resume()
        self.check_stats(suspended_calls=0)
        self.replay(graph)
        return graph

    def sessions(self):
        with self.comm.session(self.stream.value) as session:
            graph = self.capture()
        self.check_stats(pending_calls=0)
        self.replay(graph)
        session.release()
        self.replay(graph)
        try:
            with self.comm.session(self.stream.value):
                given_up = self.capture()
                raise KeyError
        except KeyError:
            pass
        self.replay(given_up)
        self.check_stats(pending_calls=0)
        library.tutti_host_graph_destroy(given_up)
        return graph

    def refusals(self):
        try:
            self.comm.suspend(0, 16)
        except tutti.Error as error:
            assert error.status == tutti.ERR_ARGUMENT and "tutti_suspend" in str(error), error
        else:
            raise AssertionError("nothing was suspended")

    def memory(self):
        mine = self.comm.alloc(1 << 16)
        theirs = self.comm.peer_pointer(mine, 1 - self.rank)
        ctypes.c_uint32.from_address(mine).value = 40 + self.rank
        self.comm.barrier()
        assert ctypes.c_uint32.from_address(theirs).value == 41 - self.rank
        self.comm.barrier()
        self.comm.free(mine)
        self.check_stats(allocs=1, frees=1)

    def runner(self):
        """Dense segments from graphs with attention called between them; what the callables raise; progress and counters."""
        width, most = 8, 24
        rows_of = ctypes.c_float * width
        data = (rows_of * most)()
        address, wants, told = ctypes.addressof(data), {"raise": False}, []
        enqueue = library.tutti_host_enqueue
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        capturing = ctypes.c_int()

        def attend(_argument):  # by the word: over real rows alone
            for row in range(ctypes.c_uint32.from_address(runner.rows).value):
                for column in range(width):
                    data[row][column] += 1

        work = function(attend)

        def dense(rows, stream):
            number = ctypes.c_uint64()
            good(library.tutti_host_capture_info(ctypes.c_void_p(stream), ctypes.byref(capturing), ctypes.byref(number)))
            if wants["raise"] and (capturing.value or wants["raise"] == "always"):
                raise ValueError("no")
            self.comm.all_reduce(address, address, rows * width, tutti.F32, stream=stream)

        def attention(_rows, stream):
            good(enqueue(ctypes.c_void_p(stream), work, None))

        def step(rows):
            for row in range(most):
                for column in range(width):
                    data[row][column] = row * 10 + column + rows + self.rank if row < rows else float("nan")
            runner.run(rows, self.stream.value)
            runner.finish(self.stream.value)
            for row in range(rows):
                for column in range(width):
                    wanted = WORLD * (row * 10 + column + rows) + 1 + 1
                    assert data[row][column] == wanted, f"row {row} of {rows}: {data[row][column]}, not {wanted}"

        with tutti.Runner(self.comm, buckets=[2, 8, 16], name="door", progress=lambda *what: told.append(what)) as runner:
            assert runner.segment(dense, padded=[(address, 4 * width)], name="dense") == 0
            assert runner.segment(attention, eager=True) == 1
            wants["raise"] = "captured"
            runner.capture(self.stream.value)
            assert [str(error) for error in runner.exceptions] == ["no"] * 3, runner.exceptions
            assert all(bucket["state"] == "eager" and "dense" in bucket["reason"] for bucket in runner.buckets())
            step(3)
            wants["raise"] = False
            runner.capture(self.stream.value, rows=7)
            runner.capture(self.stream.value)
            assert not runner.exceptions and told[-1] == ("done", 0, 2, 2) and told[0][0] == "warm up", told
            for rows in (5, 1, 16, 20, 8, 17):
                step(rows)
            wants["raise"] = "always"
            try:
                runner.run(20, self.stream.value)
            except ValueError as error:
                assert str(error) == "no"
            else:
                raise AssertionError("nothing was raised")
            wants["raise"] = False
            runner.release(8)
            runner.begin(6, self.stream.value)
            runner.enter(1)
            runner.end()
            runner.finish(self.stream.value)
            stats = runner.stats()
            assert [bucket["state"] for bucket in runner.buckets()] == ["captured", "empty", "captured"]
            for name, wanted in dict(runs=8, replayed_runs=4, oversize_runs=2, eager_runs=2, captures=3, warm_ups=1,
                                     failed_captures=3, released=1, commit_sentence="").items():
                assert stats[name] == wanted, f"{name} is {stats[name]}, not {wanted}"
        self.runner_raises()
        for buckets, says in (([4, 2], "buckets[1]"), ([], "bucket_count")):
            try:
                tutti.Runner(self.comm, buckets=buckets)
            except tutti.Error as error:
                assert error.status == tutti.ERR_ARGUMENT and says in str(error), error
            else:
                raise AssertionError(f"buckets {buckets}")

    def runner_raises(self):
        """What was raised while a bucket was captured ends no call of later; an interrupt ends the capture's."""
        state, number = ctypes.c_int(), ctypes.c_uint64()
        raises = [ValueError("kept")]

        def segment(_rows, stream):
            good(library.tutti_host_capture_info(ctypes.c_void_p(stream), ctypes.byref(state), ctypes.byref(number)))
            if state.value and raises:
                raise raises.pop()

        self.comm.extend_deadline(60000)
        with tutti.Runner(self.comm, buckets=[2], name="lazy", lazy=True) as runner:
            runner.segment(segment)
            runner.begin(2, self.stream.value)
            runner.enter(0)
            runner.end()
            assert [str(error) for error in runner.exceptions] == ["kept"], runner.exceptions
            try:
                runner.end()
            except tutti.Error as error:
                assert "no run is open" in str(error), error
            else:
                raise AssertionError("a run was ended twice")
            raises.append(KeyboardInterrupt())
            try:
                runner.capture(self.stream.value)
            except KeyboardInterrupt:
                assert runner.buckets()[0]["state"] == "eager"
            else:
                raise AssertionError("an interrupt was lost")
            runner.capture(self.stream.value)
            assert runner.buckets()[0]["state"] == "captured" and not runner.exceptions

    def run(self):
        graphs = [self.commits(), self.sessions()]
        self.refusals()
        self.memory()
        protocol, chunks, reason = self.comm.plan("all_reduce", COUNT)
        assert protocol and chunks > 0 and reason, (protocol, chunks, reason)
        stats = self.comm.stats()
        assert stats["calls"]["all_reduce"] == self.calls and stats["calls"]["barrier"] == 2, stats
        self.runner()
        for graph in graphs:
            library.tutti_host_graph_destroy(graph)
        library.tutti_host_stream_destroy(self.stream)
        self.comm.close()


def main():
    failures = []

    def body(rank, meeting):
        try:
            Rank(rank, meeting).run()
        except BaseException as error:  # a rank that ends would leave the others waiting
            print(f"rank {rank}: {type(error).__name__}: {error}", flush=True)
            failures.append(error)
            os._exit(1)

    with tempfile.TemporaryDirectory() as folder:
        ranks = [threading.Thread(target=body, args=(rank, f"unix:{folder}")) for rank in range(WORLD)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
