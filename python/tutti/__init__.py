# SPDX-License-Identifier: Apache-2.0
"""A thin door to libtutti: communicators, and collectives on addresses and streams. ctypes only.

    comm = tutti.Comm(rank, world, device=rank, rendezvous="unix:/run/job")
    comm.all_reduce(x.data_ptr(), y.data_ptr(), x.numel(), tutti.BF16, stream=torch.cuda.current_stream().cuda_stream)

Addresses and streams are integers, so that any framework's tensors will do. Every failure raises tutti.Error with the
library's sentence. The names, their meaning and who owns what are those of tutti/tutti.h. The library is found as
$TUTTI_LIBRARY, else by the system's loader.
"""

import ctypes
import os

F32, F16, BF16 = 0, 1, 2
SUM, MAX, MIN = 0, 1, 2
SHARE_DEVICE = 1  # several ranks on one GPU: for tests
ONLY_COLLECTIVE_STREAM = 8  # a promise that makes small collectives quicker: see tutti.h
DIRECT_FD = 4  # peers may map exportable VMM memory: whoever remaps it says so first, with suspend
ERR_ARGUMENT, ERR_UNSUPPORTED, ERR_CAPTURE, ERR_DRIVER, ERR_MISMATCH = -1, -2, -3, -4, -6  # of Error.status, the ones to act on
ALLOW_VENDOR = 2  # NCCL or RCCL may take over where GPUs cannot share memory

_ALLGATHER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Options(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_size_t),
        ("backend", ctypes.c_char_p),
        ("device", ctypes.c_int),
        ("rank", ctypes.c_int),
        ("world", ctypes.c_int),
        ("rendezvous", ctypes.c_char_p),
        ("allgather", _ALLGATHER),
        ("allgather_user", ctypes.c_void_p),
        ("message_bytes_max", ctypes.c_size_t),
        ("lanes", ctypes.c_int),
        ("timeout_ms", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_size_t),
        ("stream", ctypes.c_void_p),
        ("lane", ctypes.c_uint32),
        ("max_blocks", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


_COLLECTIVES = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all", "barrier")
_COUNTS = ("captured", "bytes", "one_shot", "two_shot", "exchange", "direct", "local", "waits_slept", "allocs", "frees",
           "pending_calls", "committed_calls", "suspended_calls", "staged_for_good_calls", "slots", "slots_taken",
           "mappings", "commits", "direct_calls", "direct_bytes", "staged_calls", "staged_bytes")


class _Stats(ctypes.Structure):
    _fields_ = [("struct_bytes", ctypes.c_size_t), ("calls", ctypes.c_uint64 * len(_COLLECTIVES))] + [
        (name, ctypes.c_uint64) for name in _COUNTS]


class _Plan(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_size_t),
        ("protocol", ctypes.c_char * 24),
        ("chunks", ctypes.c_uint64),
        ("reason", ctypes.c_char * 400),
    ]


_P, _N, _I = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_ARGUMENTS = {
    "tutti_comm_create": [ctypes.POINTER(_Options), ctypes.POINTER(_P)],
    "tutti_comm_status": [_P],
    "tutti_comm_abort": [_P],
    "tutti_comm_extend_deadline": [_P, ctypes.c_uint32],
    "tutti_all_reduce": [_P, _P, _P, _N, _I, _I, _P],
    "tutti_reduce_scatter": [_P, _P, _P, _N, _I, _I, _P],
    "tutti_all_gather": [_P, _P, _P, _N, _P],
    "tutti_all_gather_rows": [_P, _P, _P, _N, _N, _N, _P],
    "tutti_broadcast": [_P, _P, _N, _I, _P],
    "tutti_all_to_all": [_P, _P, _P, _N, _P],
    "tutti_barrier": [_P, _P],
    "tutti_alloc": [_P, _N, ctypes.POINTER(_P)],
    "tutti_free": [_P, _P],
    "tutti_peer_pointer": [_P, _P, _I, ctypes.POINTER(_P)],
    "tutti_comm_stats": [_P, ctypes.POINTER(_Stats)],
    "tutti_plan": [_P, _I, _N, _I, ctypes.POINTER(_Plan)],
    "tutti_commit": [_P],
    "tutti_suspend": [_P, _P, _N],
    "tutti_resume": [_P],
    "tutti_capture_begin": [_P, _P, ctypes.POINTER(_P)],
    "tutti_capture_commit": [_P],
    "tutti_capture_abort": [_P],
    "tutti_capture_release": [_P],
}


def _load():
    library = ctypes.CDLL(os.environ.get("TUTTI_LIBRARY", "libtutti.so.0"))
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = ctypes.c_int
    library.tutti_comm_destroy.argtypes = [_P]
    library.tutti_comm_destroy.restype = None
    library.tutti_last_error.restype = ctypes.c_char_p
    library.tutti_status_name.argtypes = [_I]
    library.tutti_status_name.restype = ctypes.c_char_p
    library.tutti_version.restype = ctypes.c_char_p
    return library


_library = _load()


class Error(RuntimeError):
    """A failed call: `status` is the number, the text is the library's sentence."""

    def __init__(self, status):
        self.status = status
        name = _library.tutti_status_name(status).decode()
        super().__init__(f"{name}: {_library.tutti_last_error().decode()}")


def _check(status):
    if status != 0:
        raise Error(status)


def version():
    return _library.tutti_version().decode()


class Comm:
    """A communicator. [collective] to make, and so are all its calls but those that say that they are local, abort and close.

    rendezvous: "unix:/dir", "tcp:host:port" or "env"; or allgather: a callable that takes this rank's bytes and returns
    the list of all ranks' bytes, in rank order. It is called on this thread, during creation only.
    """

    def __init__(self, rank=0, world=1, device=0, backend=None, rendezvous=None, allgather=None, lanes=1, timeout_ms=0,
                 message_bytes_max=0, flags=0):
        self._handle = None
        failure = []

        def gather(_user, mine, everyone, count):
            try:
                parts = allgather(ctypes.string_at(mine, count))
                ctypes.memmove(everyone, b"".join(parts), count * world)
                return 0
            except Exception as error:  # it must not cross the C library
                failure.append(error)
                return 1

        options = _Options(struct_bytes=ctypes.sizeof(_Options), device=device, rank=rank, world=world, lanes=lanes,
                           timeout_ms=timeout_ms, message_bytes_max=message_bytes_max, flags=flags)
        options.backend = backend.encode() if backend else None
        options.rendezvous = rendezvous.encode() if rendezvous else None
        if allgather is not None:
            options.allgather = _ALLGATHER(gather)
        handle = _P()
        status = _library.tutti_comm_create(ctypes.byref(options), ctypes.byref(handle))
        if failure:
            raise failure[0]
        _check(status)
        self._handle = handle

    @staticmethod
    def _call(stream, lane):
        return ctypes.byref(_Call(ctypes.sizeof(_Call), stream or None, lane, 0, 0))

    def all_reduce(self, src, dst, count, dtype, op=SUM, stream=0, lane=0):
        _check(_library.tutti_all_reduce(self._handle, src, dst, count, dtype, op, self._call(stream, lane)))

    def reduce_scatter(self, src, dst, count_per_rank, dtype, op=SUM, stream=0, lane=0):
        _check(_library.tutti_reduce_scatter(self._handle, src, dst, count_per_rank, dtype, op,
                                             self._call(stream, lane)))

    def all_gather(self, src, dst, bytes_per_rank, stream=0, lane=0):
        _check(_library.tutti_all_gather(self._handle, src, dst, bytes_per_rank, self._call(stream, lane)))

    def all_gather_rows(self, src, dst, rows, row_bytes, dst_stride_bytes, stream=0, lane=0):
        _check(_library.tutti_all_gather_rows(self._handle, src, dst, rows, row_bytes, dst_stride_bytes,
                                              self._call(stream, lane)))

    def broadcast(self, buffer, size_bytes, root, stream=0, lane=0):
        _check(_library.tutti_broadcast(self._handle, buffer, size_bytes, root, self._call(stream, lane)))

    def all_to_all(self, src, dst, bytes_per_rank, stream=0, lane=0):
        _check(_library.tutti_all_to_all(self._handle, src, dst, bytes_per_rank, self._call(stream, lane)))

    def barrier(self, stream=0, lane=0):
        _check(_library.tutti_barrier(self._handle, self._call(stream, lane)))

    def alloc(self, size_bytes):
        """Zeroed memory of this size on every rank, mapped by all of them; an address, to be given to free."""
        pointer = _P()
        _check(_library.tutti_alloc(self._handle, size_bytes, ctypes.byref(pointer)))
        return pointer.value

    def free(self, pointer):
        _check(_library.tutti_free(self._handle, pointer))

    def peer_pointer(self, pointer, rank):
        """Where this process sees rank `rank`'s part. Local."""
        peer = _P()
        _check(_library.tutti_peer_pointer(self._handle, pointer, rank, ctypes.byref(peer)))
        return peer.value

    def commit(self):
        """Adopts what was captured since the last commit: large captured collectives may be direct from now on."""
        _check(_library.tutti_commit(self._handle))

    def suspend(self, pointer, size_bytes):
        """Before pages under this range are unmapped, remapped or freed. Local."""
        _check(_library.tutti_suspend(self._handle, pointer, size_bytes))

    def resume(self):
        """Commits again, with the memory that is there now, what is suspended on any rank."""
        _check(_library.tutti_resume(self._handle))

    def session(self, stream):
        """Opens a capture session for this stream. Local, but all ranks open the same ones in the same order.

            with comm.session(stream) as session:   # committed at the end; given up, on all ranks, if the body raises
                ... captures ...
            session.release()                       # gives back what it held; its graphs stay right
        """
        return Session(self._handle, stream)

    def stats(self):
        """What tutti_stats counts, by the names it has in tutti.h; calls by collective. Local, from any thread."""
        stats = _Stats(struct_bytes=ctypes.sizeof(_Stats))
        _check(_library.tutti_comm_stats(self._handle, ctypes.byref(stats)))
        found = {name: getattr(stats, name) for name in _COUNTS}
        found["calls"] = dict(zip(_COLLECTIVES, stats.calls))
        return found

    def plan(self, collective, count, dtype=F32):
        """Which protocol a call ("all_reduce", ..) would take, in how many rounds, and why. Local."""
        plan = _Plan(struct_bytes=ctypes.sizeof(_Plan))
        _check(_library.tutti_plan(self._handle, _COLLECTIVES.index(collective), count, dtype, ctypes.byref(plan)))
        return plan.protocol.decode(), plan.chunks, plan.reason.decode()

    def status(self):
        """Raises the communicator's first failure, if it has failed."""
        _check(_library.tutti_comm_status(self._handle))

    def abort(self):
        _check(_library.tutti_comm_abort(self._handle))

    def extend_deadline(self, more_ms):
        """Before this rank does something long (a compilation): its peers wait so much longer for its next call. Local."""
        _check(_library.tutti_comm_extend_deadline(self._handle, more_ms))

    def close(self):
        if self._handle is not None:
            _library.tutti_comm_destroy(self._handle)
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Session:
    """What is captured between its beginning and its commit; made by Comm.session."""

    def __init__(self, comm, stream):
        self._handle = _P()
        _check(_library.tutti_capture_begin(comm, stream or None, ctypes.byref(self._handle)))

    def commit(self):
        """[collective] On an error it stays open."""
        _check(_library.tutti_capture_commit(self._handle))

    def abort(self):
        """[collective, with peers' commit] Gives up what it captured, on all ranks."""
        handle, self._handle = self._handle, None
        _check(_library.tutti_capture_abort(handle))

    def release(self):
        """Local, after the commit. Its graphs, if they are still replayed, go staged."""
        status = _library.tutti_capture_release(self._handle)
        if status not in (ERR_CAPTURE, ERR_DRIVER):
            self._handle = None
        _check(status)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.commit()
        else:
            self.abort()


from .runner import Runner  # noqa: E402  (it needs what stands above)
