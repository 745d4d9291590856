# SPDX-License-Identifier: Apache-2.0
"""The piecewise runner (tutti/runner.h, docs/runner.md): segments as Python callables."""

import ctypes

from . import Error, ERR_UNSUPPORTED, _check, _library

_P, _N, _I, _U64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint64
_SEGMENT = ctypes.CFUNCTYPE(_I, _P, _N, _P)
_EAGER, _LAZY, _NO_COMMIT = 1, 1, 2
_PHASES = ("warm up", "capture", "commit", "done")
_STATES = ("empty", "captured", "eager")


class _Padded(ctypes.Structure):
    _fields_ = [("data", _P), ("row_bytes", _N), ("stride_bytes", _N)]


class _Segment(ctypes.Structure):
    _fields_ = [("struct_bytes", _N), ("name", ctypes.c_char_p), ("fn", _SEGMENT), ("user", _P), ("flags", ctypes.c_uint32),
                ("padded", ctypes.POINTER(_Padded)), ("padded_count", _N), ("fixed_rows", _N)]


class _Progress(ctypes.Structure):
    _fields_ = [("struct_bytes", _N), ("phase", _I), ("rows", _N), ("done", _N), ("total", _N),
                ("elapsed_ms", ctypes.c_double)]


_PROGRESS = ctypes.CFUNCTYPE(None, _P, ctypes.POINTER(_Progress))


class _Options(ctypes.Structure):
    _fields_ = [("struct_bytes", _N), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint32),
                ("buckets", ctypes.POINTER(_N)), ("bucket_count", _N), ("rows_max", _N), ("powers_max", _N), ("step", _N),
                ("oversize_multiple", _N), ("attempts", ctypes.c_uint), ("progress", _PROGRESS), ("user", _P)]


_COUNTS = ("segments", "buckets", "runs", "replayed_runs", "eager_runs", "oversize_runs", "graph_launches", "segment_calls",
           "warm_ups", "captures", "failed_captures", "released", "commits", "refused_commits", "rows", "padding_rows",
           "graph_memory_bytes")
_TIMES = ("warm_up_ms", "capture_ms", "commit_ms")


class _Stats(ctypes.Structure):
    _fields_ = ([("struct_bytes", _N)] + [(name, _U64) for name in _COUNTS] +
                [(name, ctypes.c_double) for name in _TIMES] + [("commit_sentence", ctypes.c_char * 256)])


_BUCKET_COUNTS = ("captures", "failed_captures", "replayed_runs", "eager_runs", "graph_memory_bytes")


class _Bucket(ctypes.Structure):
    _fields_ = ([("struct_bytes", _N), ("rows", _N), ("state", _I)] + [(name, _U64) for name in _BUCKET_COUNTS] +
                [("capture_ms", ctypes.c_double), ("reason", ctypes.c_char * 512)])


_ARGUMENTS = {
    "tutti_runner_create": [_P, ctypes.POINTER(_Options), ctypes.POINTER(_P)],
    "tutti_runner_segment": [_P, ctypes.POINTER(_Segment), ctypes.POINTER(_I)],
    "tutti_runner_capture": [_P, _P],
    "tutti_runner_capture_rows": [_P, _N, _P],
    "tutti_runner_release": [_P, _N],
    "tutti_runner_run": [_P, _N, _P],
    "tutti_runner_begin": [_P, _N, _P],
    "tutti_runner_enter": [_P, _I],
    "tutti_runner_end": [_P],
    "tutti_runner_finish": [_P, _P],
    "tutti_runner_stats": [_P, ctypes.POINTER(_Stats)],
    "tutti_runner_bucket": [_P, _N, ctypes.POINTER(_Bucket)],
}
for _name, _types in _ARGUMENTS.items():
    getattr(_library, _name).argtypes = _types
    getattr(_library, _name).restype = _I
_library.tutti_runner_destroy.argtypes = _library.tutti_runner_rows.argtypes = [_P]
_library.tutti_runner_destroy.restype, _library.tutti_runner_rows.restype = None, _P


class Runner:
    """A forward pass in segments, replayed from graphs. Local to make; capture and run are [collective].

    buckets: row counts in ascending order, or none for the policy of rows_max, powers_max and step. lazy: a bucket is captured at the end of its first
    run. commit=False leaves captures for Comm.commit. progress(phase, rows, done, total) is called during captures.

    What a callable raises comes out of the run that called it. While it is captured, it makes that bucket eager on all ranks instead; it is
    then in `exceptions`, which holds those of the last capture or run. What is no Exception (KeyboardInterrupt) comes out in any case, when the
    call is over. The communicator outlives the runner.
    """

    def __init__(self, comm, buckets=None, rows_max=0, powers_max=0, step=0, oversize_multiple=0, attempts=0, name=None,
                 lazy=False, commit=True, progress=None):
        self._handle = None
        self._comm = comm
        self._kept = []  # callbacks that the library calls as long as it lives
        self.exceptions = []
        self._ended = None  # what a callable raised that is to come out of the call
        self._captures = False
        options = _Options(struct_bytes=ctypes.sizeof(_Options), rows_max=rows_max, powers_max=powers_max, step=step,
                           oversize_multiple=oversize_multiple, attempts=attempts)
        options.name = name.encode() if name else None
        options.flags = (_LAZY if lazy else 0) | (0 if commit else _NO_COMMIT)
        if buckets is not None:
            options.buckets, options.bucket_count = (_N * len(buckets))(*buckets), len(buckets)
        options.progress = _PROGRESS(lambda _user, told: self._tell(progress, told.contents))
        self._kept.append(options.progress)
        handle = _P()
        _check(_library.tutti_runner_create(comm._handle, ctypes.byref(options), ctypes.byref(handle)))
        self._handle = handle

    def _tell(self, progress, told):
        self._captures = _PHASES[told.phase] == "capture"
        try:
            if progress is not None:
                progress(_PHASES[told.phase], told.rows, told.done, told.total)
        except BaseException as error:  # it must not cross the C library
            self.exceptions.append(error)
            self._ended = self._ended if isinstance(error, Exception) else error

    def segment(self, function, eager=False, padded=(), fixed_rows=0, name=None):
        """Adds function(rows, stream), which enqueues work on that stream; its number, for enter.

        padded: (address, bytes of a row[, bytes from row to row]) of what it reads by rows.
        """

        def call(_user, rows, stream):
            try:
                function(rows, stream or 0)
                return 0
            except BaseException as error:  # it must not cross the C library
                self.exceptions.append(error)
                if not self._captures or not isinstance(error, Exception):
                    self._ended = error
                return error.status if isinstance(error, Error) else ERR_UNSUPPORTED

        matrices = (_Padded * len(padded))(*padded)
        segment = _Segment(struct_bytes=ctypes.sizeof(_Segment), fn=_SEGMENT(call), flags=_EAGER if eager else 0,
                           padded_count=len(padded), fixed_rows=fixed_rows)
        segment.name = name.encode() if name else None
        segment.padded = matrices if padded else None
        index = _I()
        _check(_library.tutti_runner_segment(self._handle, ctypes.byref(segment), ctypes.byref(index)))
        self._kept.append(segment.fn)
        return index.value

    def _begin(self):
        self.exceptions, self._ended = [], None

    def _made(self, status):
        """What a callable raised says more than the library can, if it is what ended the call."""
        ended, self._ended = self._ended, None
        if ended is not None and (status != 0 or not isinstance(ended, Exception)):
            raise ended
        _check(status)

    def capture(self, stream, rows=None):
        """Every bucket that is not captured, or the one that holds so many rows."""
        self._begin()
        self._made(_library.tutti_runner_capture(self._handle, stream or None) if rows is None else
                   _library.tutti_runner_capture_rows(self._handle, rows, stream or None))

    def release(self, rows=0):
        """All ranks; local. The graphs of the bucket that holds so many rows, 0: all."""
        _check(_library.tutti_runner_release(self._handle, rows))

    def run(self, rows, stream):
        """One pass over so many rows, the same number on all ranks: nothing compares them (docs/runner.md)."""
        self._begin()
        self._made(_library.tutti_runner_run(self._handle, rows, stream or None))

    def begin(self, rows, stream):
        self._begin()
        _check(_library.tutti_runner_begin(self._handle, rows, stream or None))

    def enter(self, segment):
        self._made(_library.tutti_runner_enter(self._handle, segment))

    def end(self):
        self._made(_library.tutti_runner_end(self._handle))

    def finish(self, stream):
        """Waits. Rows may be handed out if it does not raise. Local."""
        _check(_library.tutti_runner_finish(self._handle, stream or None))

    @property
    def rows(self):
        """The address of the device's word of real rows, uint32, for kernels that mask padding. Local."""
        return _library.tutti_runner_rows(self._handle)

    def stats(self):
        """What tutti_runner_stats_t counts, by the names it has in runner.h. Local."""
        stats = _Stats(struct_bytes=ctypes.sizeof(_Stats))
        _check(_library.tutti_runner_stats(self._handle, ctypes.byref(stats)))
        found = {name: getattr(stats, name) for name in _COUNTS + _TIMES}
        found["commit_sentence"] = stats.commit_sentence.decode()
        return found

    def buckets(self):
        """A dictionary for each bucket, in ascending order; rows 0 stands for segments with fixed_rows. Local."""
        found = []
        bucket = _Bucket(struct_bytes=ctypes.sizeof(_Bucket))
        for index in range(self.stats()["buckets"]):
            _check(_library.tutti_runner_bucket(self._handle, index, ctypes.byref(bucket)))
            found.append({name: getattr(bucket, name) for name in ("rows", "capture_ms") + _BUCKET_COUNTS})
            found[-1].update(state=_STATES[bucket.state], reason=bucket.reason.decode(errors="replace"))
        return found

    def close(self):
        """The runs' work must have completed."""
        if self._handle is not None:
            _library.tutti_runner_destroy(self._handle)
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
