/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tutti.h - tensor-parallel collectives that a captured graph cannot break.
 *
 *     tutti_comm_options options = {0};
 *     options.struct_bytes = sizeof(options);
 *     options.rendezvous = "env";                        // torchrun, Open MPI, Slurm or TUTTI_*
 *     tutti_comm *comm = NULL;
 *     if (tutti_comm_create(&options, &comm) != TUTTI_OK) { puts(tutti_last_error()); return 1; }
 *
 *     tutti_all_reduce(comm, partial, full, count, TUTTI_BF16, TUTTI_SUM, NULL);
 *
 *     tutti_comm_destroy(comm);
 *
 * How to read the declarations
 *   [collective]  every rank of the communicator makes this call, in the same order, with the same
 *                 sizes, types and operators. Everything else is local to the calling process.
 *   [capture]     legal while the call's stream is capturing; the call then becomes part of the
 *                 graph. Every other function may be called at any time, but never enqueues work
 *                 into a capture.
 *
 * Every function returns a tutti_status (0, or negative) unless it cannot fail, touches its outputs
 * only on success, and leaves one sentence for the caller in tutti_last_error(). A struct that is
 * passed in or out carries its own size in `struct_bytes`, which the caller sets to sizeof: a program
 * built against an older header keeps working with a newer library. In such a struct zero means
 * default.
 *
 * Threads: a communicator may be used by one thread at a time, except tutti_comm_abort,
 * tutti_comm_status, tutti_comm_info and tutti_comm_stats, which any thread may call at any time
 * before tutti_comm_destroy. Different communicators are independent of each other.
 */
#ifndef TUTTI_TUTTI_H
#define TUTTI_TUTTI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUTTI_VERSION_MAJOR 0
#define TUTTI_VERSION_MINOR 1
#define TUTTI_VERSION_PATCH 0

#if defined(__GNUC__)
#define TUTTI_API __attribute__((visibility("default")))
#else
#define TUTTI_API
#endif

/* -- status ---------------------------------------------------------------------------------- */

typedef enum tutti_status {
    TUTTI_OK = 0,
    TUTTI_ERR_ARGUMENT = -1,    /* the caller's mistake; nothing was enqueued */
    TUTTI_ERR_UNSUPPORTED = -2, /* valid, but not on this backend, device or driver */
    TUTTI_ERR_CAPTURE = -3,     /* not legal in this stream's capture state */
    TUTTI_ERR_DRIVER = -4,      /* a driver call failed; the sentence names it */
    TUTTI_ERR_SYSTEM = -5,      /* memory, files, sockets, threads */
    TUTTI_ERR_MISMATCH = -6,    /* ranks differ: build, settings, or what they called */
    TUTTI_ERR_TIMEOUT = -7,     /* a peer did not arrive in time */
    TUTTI_ERR_PEER_LOST = -8,   /* a peer's process is gone, or it has destroyed the communicator */
    TUTTI_ERR_ABORTED = -9      /* tutti_comm_abort was called, here or on a peer */
} tutti_status;

/* The library's version, "major.minor.patch"; it may be newer than the header's. Static storage. */
TUTTI_API const char *tutti_version(void);

/* "TUTTI_ERR_TIMEOUT" for TUTTI_ERR_TIMEOUT; "unknown status" for anything else. Static storage. */
TUTTI_API const char *tutti_status_name(tutti_status status);

/* The last failure on the calling thread, as one sentence; "" if there was none. Owned by the library
 * and valid until the calling thread's next failing call. */
TUTTI_API const char *tutti_last_error(void);

/* -- types ----------------------------------------------------------------------------------- */

typedef enum tutti_dtype { TUTTI_F32 = 0, TUTTI_F16 = 1, TUTTI_BF16 = 2 } tutti_dtype;

/* Sums run in rank order 0..world-1 in fp32, start from rank 0's value and are rounded once. Max and
 * min propagate NaN and order -0 below +0. A NaN result is always the type's one canonical NaN
 * (0x7fc00000, 0x7e00, 0x7fc0). */
typedef enum tutti_op { TUTTI_SUM = 0, TUTTI_MAX = 1, TUTTI_MIN = 2 } tutti_op;

typedef enum tutti_collective {
    TUTTI_ALL_REDUCE = 0,
    TUTTI_REDUCE_SCATTER = 1,
    TUTTI_ALL_GATHER = 2,
    TUTTI_BROADCAST = 3,
    TUTTI_ALL_TO_ALL = 4,
    TUTTI_BARRIER = 5
} tutti_collective;
#define TUTTI_COLLECTIVE_COUNT 6

/* Bytes of one element; 0 for a value that is no tutti_dtype. */
TUTTI_API size_t tutti_dtype_bytes(tutti_dtype dtype);

/* A stream of the communicator's backend; on the host backend a tutti_host_stream (host.h).
 * NULL is the backend's default stream. On the host backend that is the calling thread itself: the
 * call returns when the collective has completed, with its final status. */
typedef void *tutti_stream;

typedef struct tutti_comm tutti_comm;

/* -- communicators --------------------------------------------------------------------------- */

#define TUTTI_WORLD_MAX 64
#define TUTTI_LANES_MAX 16

/* Ranks may share one GPU, which is an error otherwise: nearly always a mistake, and such ranks make progress only
 * together. Each needs a stream of its own, not the NULL stream, and the device a hardware queue for each of these streams
 * (CUDA_DEVICE_MAX_CONNECTIONS). The host backend needs no such permission. */
#define TUTTI_COMM_SHARE_DEVICE 1u

/* Peers may map the caller's memory of kind TUTTI_MEMORY_FD. Off by default because an allocator of such memory may put other
 * pages behind the same addresses, and the peers would go on with the old ones: whoever sets this says before that happens. */
#define TUTTI_COMM_DIRECT_FD 4u

/* A promise: while the communicator lives, one stream of its device at a time carries collectives, whoever's they are. GPU
 * backends then launch theirs programmatically where the device can (NVIDIA, compute capability 9.0 and later), and let
 * the kernel behind one take its place while that one still waits for its peers: about 0.2 us less for a small message. Without
 * the promise kept, two such streams can fill the device with kernels that wait for each other. One lane only, and not
 * with TUTTI_COMM_SHARE_DEVICE. Without effect on other devices and on the host. */
#define TUTTI_COMM_ONLY_COLLECTIVE_STREAM 8u

/* Where the ranks' GPUs cannot share memory, or no kernel of this library fits one of them, the vendor's collectives (NCCL or
 * RCCL, loaded at run time) may take over; without this flag creation fails with the reason. The setting TUTTI_GPU_VENDOR
 * overrides it. tutti_comm_info then says so: `deterministic` is 0, and backend_reason names the rank and the cause. What
 * differs: numbers are the vendor's (each of its algorithms adds in an order of its own, NaN and -0 as it treats them); waits of
 * replayed graphs have no timeout; after a failure the device waits until a thread of the program's calls tutti_comm_status,
 * tutti_comm_abort or tutti_comm_destroy; a graph that is replayed after tutti_comm_destroy waits for its peers;
 * tutti_comm_create_all and ranks that share a device are not possible. */
#define TUTTI_COMM_ALLOW_VENDOR 2u

typedef struct tutti_comm_options {
    size_t struct_bytes;
    const char *backend; /* "cuda", "hip", "host"; NULL: the setting TUTTI_BACKEND, else the best usable one */
    int device;          /* ordinal as this process sees it; the host backend has device 0 only */
    int rank;            /* 0 .. world-1; with rendezvous "env" taken from the environment */
    int world;           /* 1 .. TUTTI_WORLD_MAX, 8 on GPUs; with rendezvous "env" likewise */
    /* How the ranks meet. All of them must run on one host, as one user.
     *   "unix:/dir"      through a socket whose name is derived from the directory (which must exist);
     *                    nothing is written into it
     *   "tcp:host:port"  rank 0 listens there; every rank sets TUTTI_SESSION_TOKEN to the same 32 hex
     *                    digits, or they are derived from the launcher's job identity
     *   "env"            rank, world and meeting point from TUTTI_RANK, TUTTI_WORLD and
     *                    TUTTI_RENDEZVOUS, else from torchrun, Open MPI, MPICH or Slurm
     *   NULL             through `allgather` below; with world 1 nothing is needed
     * Any number of communicators may be made through one rendezvous, one after another. */
    const char *rendezvous;
    /* Every rank contributes `bytes` at `mine` and receives world * bytes at `all`, in rank order.
     * Returns 0, or anything else to fail the creation. Called on the creating thread, during creation
     * only. */
    int (*allgather)(void *user, const void *mine, void *all, size_t bytes);
    void *allgather_user;
    size_t message_bytes_max; /* a hint that sizes the staging; larger messages work, in chunks. 0: what
                                 suits any size; on GPUs that takes 64 MB for each lane */
    int lanes;                /* how many collectives may run at the same time; 1. On a GPU, lanes and the
                                 process's communicators share the room for blocks that wait: the more
                                 there are, the smaller the grids */
    uint32_t timeout_ms;      /* how long a wait for a peer may last; the setting TUTTI_TIMEOUT_MS */
    uint32_t flags;           /* TUTTI_COMM_*, the same on all ranks */
} tutti_comm_options;

/* [collective] Makes a communicator. Compares library build, machine and settings across ranks: the
 * first difference is named in the error on every rank. On failure nothing is left behind.
 * Errors: ARGUMENT, UNSUPPORTED (no usable backend), SYSTEM, MISMATCH, TIMEOUT, PEER_LOST. */
TUTTI_API tutti_status tutti_comm_create(const tutti_comm_options *options, tutti_comm **comm);

/* Makes all ranks of a communicator at once, from one thread that drives them all (rank i on
 * devices[i]); never blocks on itself. options->rank, world, rendezvous and allgather are ignored;
 * devices may be NULL (all device 0, host backend). `comms` receives `world` communicators.
 * Because one thread drives them, calls on these communicators need a stream: the NULL stream of the
 * host backend, where a call waits for the others, is an argument error. */
TUTTI_API tutti_status tutti_comm_create_all(const tutti_comm_options *options, const int *devices, int world,
                                             tutti_comm **comms);

/* [collective on parent] Ranks that pass the same color (>= 0) form a communicator, ordered by key,
 * then by parent rank. A negative color takes part and gets *child = NULL. The child shares the
 * parent's connections and watchdog and has lanes and epochs of its own; it may outlive the parent, and it
 * fails when a process of one of its ranks is lost. Lanes and timeout are the parent's. */
TUTTI_API tutti_status tutti_comm_split(tutti_comm *parent, int color, int key, tutti_comm **child);

/* TUTTI_OK, or the communicator's first failure, which is final: every later collective returns it
 * and enqueues nothing. tutti_last_error() then holds the sentence. Any thread. */
TUTTI_API tutti_status tutti_comm_status(tutti_comm *comm);

/* Ends every wait on this communicator, here and on all peers, with TUTTI_ERR_ABORTED. Any thread. */
TUTTI_API tutti_status tutti_comm_abort(tutti_comm *comm);

/* Before this rank does something long (a compilation, a load): peers that wait for this rank's
 * next collective grant it `more_ms` on top of their timeout. Ends with that collective, or with another call that
 * all ranks make (a split, a commit). On GPUs the host does not see replays: they do not end it. */
TUTTI_API tutti_status tutti_comm_extend_deadline(tutti_comm *comm, uint32_t more_ms);

typedef struct tutti_comm_info_t {
    size_t struct_bytes;
    int rank, world, device, lanes;
    uint32_t timeout_ms;
    int deterministic;        /* 1: same bits on all ranks, whatever the protocol; 0: the vendor's collectives */
    int processes;            /* how many processes the ranks live in */
    uint64_t lost_ranks;      /* bit r: the process of rank r is gone */
    uint64_t arena_bytes;     /* shared memory this rank contributes */
    uint64_t mapped_bytes;    /* shared memory of this communicator mapped into this process */
    uint64_t create_us;       /* how long creation took on this rank */
    char backend[16];         /* "cuda", "hip", "host" */
    char device_name[64];     /* "x86-64 avx512, 2 cores" */
    char backend_reason[256]; /* why this backend, and why not the others */
    uint64_t symmetric_count; /* allocations of tutti_alloc that live */
    uint64_t symmetric_bytes; /* this rank's memory in them, in whole pages; arena_bytes and mapped_bytes include it */
} tutti_comm_info_t;
TUTTI_API tutti_status tutti_comm_info(const tutti_comm *comm, tutti_comm_info_t *info);

typedef struct tutti_stats {
    size_t struct_bytes;
    /* Executed, by tutti_collective; replays count each time. On GPUs, here and below: enqueued, without replays. */
    uint64_t calls[TUTTI_COLLECTIVE_COUNT];
    uint64_t captured; /* collectives recorded into graphs */
    uint64_t bytes;    /* payload of executed calls, as the caller passed it */
    /* Executed calls by protocol (docs/protocols.md); the vendor's are in none of them. */
    uint64_t one_shot, two_shot, exchange, direct, local;
    uint64_t waits_slept;   /* waits that gave up spinning and slept */
    uint64_t allocs, frees; /* tutti_alloc and tutti_free that succeeded */
    /* Captured calls whose graphs live, by what became of them: recorded since the last commit; committed; suspended; staged
     * for good. `slots`: how many can be direct at a time, and how many slots are taken. `mappings`: allocations of peers that commits
     * have mapped. */
    uint64_t pending_calls, committed_calls, suspended_calls, staged_for_good_calls;
    uint64_t slots, slots_taken, mappings, commits;
    /* How calls that are large enough to be direct went, replays included. */
    uint64_t direct_calls, direct_bytes, staged_calls, staged_bytes;
} tutti_stats;
TUTTI_API tutti_status tutti_comm_stats(tutti_comm *comm, tutti_stats *stats);

/* Local, but a peer that still waits for this rank then fails with TUTTI_ERR_PEER_LOST. Waits for
 * calls of this communicator that this process has enqueued on streams. Graphs that hold collectives of the
 * communicator may outlive it: replaying them then does nothing but poison their outputs and fail the
 * launch. NULL is allowed. */
TUTTI_API void tutti_comm_destroy(tutti_comm *comm);

/* -- memory ---------------------------------------------------------------------------------- */

/*
 * Collectives take any memory that the device can use. Memory from here is *symmetric*: every rank has a part of the same size,
 * and every rank has mapped all parts when the call returns.
 */

/* [collective] Makes `bytes` (> 0, the same on all ranks) of zeroed memory on the communicator's device, on the host backend
 * shared memory of the machine, aligned to a page. A failure on one rank, ranks that ask for different sizes among them, is an
 * error with the same sentence on all ranks, and nothing is left behind; the communicator stays usable.
 * May be called while streams capture, in any mode: it becomes no part of the graph. The memory lives until tutti_free; what is
 * left when the communicator is destroyed is freed then, or when the last graph that holds its collectives is gone.
 * Errors: ARGUMENT, MISMATCH, SYSTEM, DRIVER, UNSUPPORTED, and the communicator's first failure. */
TUTTI_API tutti_status tutti_alloc(tutti_comm *comm, size_t bytes, void **pointer);

/* [collective] Frees what tutti_alloc gave, on all ranks: everyone passes the pointer of the same allocation. Waits for this
 * communicator's calls that this process has enqueued on streams; any other work that uses the memory, launches of graphs and
 * work on peers' parts included, must have completed on all ranks. On an error nothing is freed.
 * Errors: ARGUMENT (not such a pointer, on any rank), MISMATCH, and the communicator's first failure. */
TUTTI_API tutti_status tutti_free(tutti_comm *comm, void *pointer);

/* The same for communicators of one tutti_comm_create_all, whose one thread would wait for itself in the calls above. comms and
 * pointers: [world], in rank order; `pointers` receives, or names, each rank's part. */
TUTTI_API tutti_status tutti_alloc_all(tutti_comm *const *comms, int world, size_t bytes, void **pointers);
TUTTI_API tutti_status tutti_free_all(tutti_comm *const *comms, int world, void *const *pointers);

/* Where this process sees rank `rank`'s part of an allocation: *peer stands to that part as `pointer`, anywhere in this rank's
 * part, stands to its own. For kernels of the caller, who orders their accesses (with tutti_barrier, for instance). Valid until
 * tutti_free. ARGUMENT. */
TUTTI_API tutti_status tutti_peer_pointer(tutti_comm *comm, const void *pointer, int rank, void **peer);

/* What memory is, and so how it can travel; docs/memory.md has the table. Collectives work from all kinds but UNKNOWN. */
typedef enum tutti_memory_kind {
    TUTTI_MEMORY_UNKNOWN = 0, /* nothing that the device can use: calls refuse it */
    TUTTI_MEMORY_HOST = 1,    /* host memory */
    TUTTI_MEMORY_MANAGED = 2, /* moves between host and devices */
    TUTTI_MEMORY_STAGED = 3, /* device memory that nothing can share: stream-ordered pools, VMM without a handle type */
    TUTTI_MEMORY_IPC = 4,    /* a plain device allocation */
    TUTTI_MEMORY_FD = 5,     /* VMM memory that can be passed as a file descriptor */
    TUTTI_MEMORY_SAME_PROCESS = 6, /* all ranks are threads of one process, and reach it */
    TUTTI_MEMORY_SYMMETRIC = 7     /* from tutti_alloc, this rank's part or a peer's */
} tutti_memory_kind;

typedef struct tutti_memory_class_t {
    size_t struct_bytes;
    tutti_memory_kind kind;
    int device;      /* it lies on, as this process numbers them; -1: on none, or not known */
    int shareable;   /* 1: peers may use it directly; 0: calls stage it, or refuse it, as `reason` says */
    uint64_t base;   /* of the allocation that the pointer lies in */
    uint64_t bytes;  /* of that allocation; 0: neither is known */
    uint64_t offset; /* of the pointer in it */
    char reason[200];
} tutti_memory_class_t;

/* Looks at the allocation that `pointer` lies in, asking the driver now. Local, may be called during captures. A pointer to
 * nothing is no error but of kind UNKNOWN. Errors: ARGUMENT, DRIVER, and the communicator's first failure. */
TUTTI_API tutti_status tutti_memory_class(tutti_comm *comm, const void *pointer, tutti_memory_class_t *out);

/* -- collectives ----------------------------------------------------------------------------- */

/* How a collective is launched: the last argument of each; NULL means all zero. */
typedef struct tutti_call {
    size_t struct_bytes;
    tutti_stream stream;
    uint32_t lane;       /* < lanes. Calls that may run at the same time need different lanes; the
                            calls of one lane come in one order on all ranks;
                            those of one graph too, whatever their lanes. */
    uint32_t max_blocks; /* GPU backends: leave room for compute beside; 0: our choice */
    uint32_t flags;      /* none yet: must be 0 */
} tutti_call;

/*
 * All of them are [collective] [capture], asynchronous on call->stream, and identical bit for bit on all
 * ranks whether eager or replayed. Buffers are the caller's, aligned to their element, of any kind
 * of memory the device can read; they must stay valid until the work has completed, and for captured
 * calls as long as the graph is launched. Counts may be 0, odd, and above 2^31 bytes. In place is
 * legal where the declaration says so; any other overlap of src and dst is an argument error.
 * Errors, with nothing enqueued: ARGUMENT, CAPTURE, UNSUPPORTED, SYSTEM, and the communicator's first
 * failure. A failure during execution is reported by tutti_comm_status; the output then holds NaN
 * (reductions) or zero (copies). Two streams that use one lane at the same time are a mistake: the host backend notices it
 * and fails the communicator with TUTTI_ERR_ARGUMENT; GPUs put the calls of one graph in order, and outside of graphs the
 * caller does (by one stream, or events).
 */

/* dst[i] = op over ranks r of src_r[i], i < count. In place: dst == src. */
TUTTI_API tutti_status tutti_all_reduce(tutti_comm *comm, const void *src, void *dst, size_t count, tutti_dtype dtype,
                                        tutti_op op, const tutti_call *call);

/* dst[i] = op over ranks r of src_r[rank * count_per_rank + i]. src: world * count_per_rank elements,
 * dst: count_per_rank. In place: dst == src + rank * count_per_rank elements. */
TUTTI_API tutti_status tutti_reduce_scatter(tutti_comm *comm, const void *src, void *dst, size_t count_per_rank,
                                            tutti_dtype dtype, tutti_op op, const tutti_call *call);

/* dst = the ranks' src, one after another. src: bytes_per_rank, dst: world * bytes_per_rank.
 * In place: src == dst + rank * bytes_per_rank. */
TUTTI_API tutti_status tutti_all_gather(tutti_comm *comm, const void *src, void *dst, size_t bytes_per_rank,
                                        const tutti_call *call);

/* Gathers along the last dimension (logits): row i of dst holds the ranks' row i side by side. src: rows x
 * row_bytes, dense. Rank r's row i goes to dst + i * dst_stride_bytes + r * row_bytes, so
 * dst_stride_bytes >= world * row_bytes; bytes between are not touched. Not in place. */
TUTTI_API tutti_status tutti_all_gather_rows(tutti_comm *comm, const void *src, void *dst, size_t rows,
                                             size_t row_bytes, size_t dst_stride_bytes, const tutti_call *call);

/* buffer of every rank = buffer of root, `bytes` long. */
TUTTI_API tutti_status tutti_broadcast(tutti_comm *comm, void *buffer, size_t bytes, int root, const tutti_call *call);

/* Block j of this rank's src goes to block `rank` of rank j's dst. Both hold world * bytes_per_rank.
 * In place: dst == src. */
TUTTI_API tutti_status tutti_all_to_all(tutti_comm *comm, const void *src, void *dst, size_t bytes_per_rank,
                                        const tutti_call *call);

/* Work behind it starts only after all ranks' work before it has completed, per lane and stream. */
TUTTI_API tutti_status tutti_barrier(tutti_comm *comm, const tutti_call *call);

typedef struct tutti_plan_t {
    size_t struct_bytes;
    char protocol[24]; /* "one-shot", "two-shot", "exchange", "direct", "local"; "nccl", "rccl" */
    uint64_t chunks;   /* how many rounds of the staging one call takes */
    char reason[400];  /* why, as one sentence */
} tutti_plan_t;

/* Which protocol a call would take, and why. `count`: elements for reductions (per rank for
 * reduce_scatter), bytes for copies (per rank where the call says so). Enqueues nothing, and is local. Where buffers decide
 * ("direct" on GPUs), the reason says which ones go directly and what became of the calls captured so far: how many the last
 * commit left staged, on whose account and why; how many wait for tutti_commit or tutti_resume. */
TUTTI_API tutti_status tutti_plan(const tutti_comm *comm, tutti_collective kind, size_t count, tutti_dtype dtype,
                                  tutti_plan_t *plan);

/* -- zero-copy for captured graphs: optional ------------------------------------------------- */

/*
 * A captured collective is complete: it replays correctly for ever, with nothing of this section. Large ones on GPUs are faster
 * when the ranks use each other's buffers directly, and for that the ranks have to know them: tutti_commit, one line after the
 * captures of an engine. Before it, without it, and wherever it is not possible, the same graphs go by way of the
 * communicator's own memory, with the same bits; docs/capture.md says what an engine has to do, and when. Calls on memory of
 * tutti_alloc are direct without any commit.
 *
 * Who owns what: the buffers are the caller's, and stay allocated as long as a committed graph refers to them, or until
 * tutti_suspend, tutti_capture_release or the end of the graph. Before other pages are put behind their addresses, tutti_suspend
 * is called; without it peers go on with the old pages. Whoever frees or remaps such memory earlier is told, where the driver can
 * tell, by the next call that gives it back.
 */

/* [collective] Adopts everything that was captured on this communicator since the last commit, whatever the stream, lane or
 * graph. Compares what the ranks captured first: if it differs, all ranks get MISMATCH with the first call that does, and what was
 * captured stays staged for good. A graph that does not exist on some rank, because its capture failed there, is dropped on
 * all: they get CAPTURE, with the call after which the capture's state changed, and the other graphs wait for the next commit. On any
 * other failure nothing is committed and another commit may be tried. Replays may run meanwhile, everywhere. Not while the stream of an
 * open session captures (CAPTURE); a commit that succeeds ends the open session.
 * Errors: CAPTURE, MISMATCH, SYSTEM, DRIVER, UNSUPPORTED, and the communicator's first failure. */
TUTTI_API tutti_status tutti_commit(tutti_comm *comm);

/* Before pages under [pointer, pointer + bytes) are unmapped, remapped or freed: takes committed calls that use them off the direct
 * way and closes what this rank has mapped for them; returns when nothing of it is in use any more. Local: the other ranks' calls then
 * find this rank not willing and are staged, and peers keep their mapping of this rank's memory until they suspend or resume the same
 * calls. Waits for this rank's large calls that run, and so for the peers that these wait for; for nothing else on the device, and
 * captures that are open stay valid.
 * Errors: ARGUMENT (also: the memory has changed already; it is suspended all the same), DRIVER (nothing has changed), and
 * the communicator's first failure. */
TUTTI_API tutti_status tutti_suspend(tutti_comm *comm, const void *pointer, size_t bytes);

/* [collective] Commits again what is suspended on any rank, with the memory that is there now; no graph is captured again. Calls whose
 * memory can no longer be shared stay staged for good. Where calls that a peer has suspended are still direct, it waits as
 * tutti_suspend does: launches that wait for a peer's, which that peer makes only behind its tutti_resume, must not be under way.
 * Errors: as tutti_commit. */
TUTTI_API tutti_status tutti_resume(tutti_comm *comm);

/* The same for communicators of one tutti_comm_create_all, in rank order. */
TUTTI_API tutti_status tutti_commit_all(tutti_comm *const *comms, int world);
TUTTI_API tutti_status tutti_resume_all(tutti_comm *const *comms, int world);

/* A session names what is captured between its begin and its commit, so that it can be released as one; and while it is open,
 * calls elsewhere than on its stream, or on a stream that takes part in its capture, are refused (CAPTURE, naming both streams). */
typedef struct tutti_capture tutti_capture;

/* Opens a session for captures on `stream` (not NULL), which must live until it is closed. All ranks open the same sessions in the same
 * order. One at a time for each communicator. May be called while the stream captures. ARGUMENT, CAPTURE, SYSTEM, DRIVER. */
TUTTI_API tutti_status tutti_capture_begin(tutti_comm *comm, tutti_stream stream, tutti_capture **capture);

/* [collective, with tutti_capture_abort] Closes the session with a tutti_commit. On an error it stays open, unless a peer has aborted
 * it (CAPTURE): then it is closed, and tutti_capture_release frees it. */
TUTTI_API tutti_status tutti_capture_commit(tutti_capture *capture);

/* [collective, with tutti_capture_commit] Closes the session and gives up what it captured, on all ranks: those that commit meanwhile
 * get CAPTURE. Its graphs stay right, and staged. `capture` is freed. */
TUTTI_API tutti_status tutti_capture_abort(tutti_capture *capture);

/* Gives back what a committed session holds: its graphs, if they still are replayed, go staged. Local. Waits as tutti_suspend does.
 * `capture` is freed, unless the error is CAPTURE (it is still open), DRIVER, or the communicator's first failure. What is not released goes with its graphs, and with the
 * communicator; the handle is valid until then. */
TUTTI_API tutti_status tutti_capture_release(tutti_capture *capture);

/* -- what the library knows about itself and the machine --------------------------------------- */

typedef struct tutti_backend_t {
    size_t struct_bytes;
    char name[16]; /* "cuda", "hip", "host" */
    int usable;    /* 1, or 0 with the reason below */
    int device_count;
    char description[256]; /* the devices if usable, else why not */
} tutti_backend_t;

/* The index-th backend, best first. ARGUMENT past the last one. */
TUTTI_API tutti_status tutti_backend(size_t index, tutti_backend_t *backend);

typedef struct tutti_setting_t {
    size_t struct_bytes;
    char name[48];   /* the environment variable, "TUTTI_TIMEOUT_MS" */
    char type[8];    /* "size", "uint", "text", "choice" */
    char value[128]; /* in force in this process */
    char default_value[128];
    int from_environment; /* 1: set there */
    int agreed;           /* 1: must be the same on all ranks */
    char description[256];
} tutti_setting_t;

/* The index-th setting. ARGUMENT past the last one. */
TUTTI_API tutti_status tutti_setting(size_t index, tutti_setting_t *setting);

#ifdef __cplusplus
}
#endif

#endif
