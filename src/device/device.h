/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - the only door to a backend.
 *
 * Everything above this file (src/api, src/comm) speaks of ranks, operations and failures; everything
 * below it (src/device/<backend>) speaks of streams, memory and waiting. A backend is one `struct
 * device_ops`; src/device/device.c holds the list of them, best first.
 *
 * Words: a *device* is what one rank computes on. A *group* is a backend's side of one communicator: its
 * lanes, its epochs, its view of the peers. A group talks to its peers through *shared segments*: one
 * per rank, made by the communicator, mapped by all ranks, zero at birth. The first page of each
 * belongs to src/comm (control.h), the rest to the backend.
 */
#ifndef TUTTI_DEVICE_DEVICE_H
#define TUTTI_DEVICE_DEVICE_H

#include <stdbool.h>

#include "device/memory.h"
#include "tutti/tutti.h"

#define DEVICE_ABI 6

struct device;
struct direct_entry;
struct graph_ops;
struct group;
struct registry;
struct segment;
struct symmetric;

/* One collective call: what all ranks must agree on, then this rank's part. Arguments are checked
 * before an operation is made (src/api/collectives.c); a backend trusts it. */
struct operation {
    tutti_collective kind;
    tutti_dtype dtype; /* reductions */
    tutti_op op;       /* reductions */
    int root;          /* broadcast */
    size_t count;      /* reductions: elements of the result; copies: bytes a rank contributes (to each
                          peer for all_to_all) */
    const void *src;   /* broadcast: equals dst */
    void *dst;
    /* all_gather_rows: count == rows * row_bytes, row r of dst starts at r * dst_stride_bytes. Otherwise
     * row_bytes is 0 and the peers' parts of dst follow one another. */
    size_t row_bytes;
    size_t dst_stride_bytes;
};

/* The first failure of a communicator. Final. */
struct failure {
    tutti_status status;
    int reporter; /* the rank that noticed */
    int culprit;  /* the rank it is about, or -1 */
    char sentence[256];
};

/* Memory of tutti_alloc's: where a range lies in it, and where every rank's part is mapped here. */
struct symmetric_place {
    uint64_t serial; /* of the allocation, from 1: the same on all ranks, never given again */
    uint64_t offset; /* of the range in the part */
    uint64_t parts[TUTTI_WORLD_MAX];
};

/* What a group needs to know of its communicator. Pointers stay valid for the group's life. */
struct group_options {
    struct device *device;
    int rank, world, lanes;
    int processes;  /* the ranks live in this many; 1: threads only */
    uint32_t flags; /* TUTTI_COMM_* */
    uint32_t timeout_ms;
    size_t message_bytes_max;
    void *const *shared; /* [world]: the backend's part of each rank's segment; own at [rank] */
    /* [world]: those segments, for a group that has to keep one longer than it lives (memory/segment.h). */
    struct segment *const *segments;
    /* Nonzero once the communicator has failed; every wait polls it. In this rank's own segment, where peers
     * can reach it. */
    const _Atomic uint32_t *failed;
    /* Reports a failure to the communicator and to all peers. The first one wins. Any thread. */
    void (*fail)(void *user, const struct failure *failure);
    /* The communicator's first failure, with its sentence in tutti_last_error. Any thread. */
    tutti_status (*status)(void *user);
    /* How much longer than timeout_ms a wait for `rank` may last, and whether it has left for good. */
    uint32_t (*extension_ms)(void *user, int rank);
    bool (*departed)(void *user, int rank);
    /* Bit r: the process of rank r is gone. */
    uint64_t (*lost)(void *user);
    /* This rank's own calls have completed: peers need not wait for it any more. For group_destroy, before it does anything that
     * a peer's waiting can hold up. */
    void (*leave)(void *user);
    /* The wait for `rank` is over: withdraws this rank's own extension. */
    void (*call_completed)(void *user);
    /* Whether a range lies in this rank's part of one allocation of tutti_alloc's; then *place. The thread that uses the
     * communicator. */
    bool (*symmetric)(void *user, const void *pointer, size_t bytes, struct symmetric_place *place);
    /* What this rank captures (capture/registry.h): the group takes tickets from it, and holds on graphs. The group's own once it has
     * been created: it frees it with the last graph. */
    struct registry *registry;
    void *user;
    const char *reason; /* why the communicator uses this backend, and how */
};

/* What a stream does with work. */
enum device_stream_state { DEVICE_STREAM_IDLE, DEVICE_STREAM_CAPTURING, DEVICE_STREAM_INVALIDATED };
struct device_stream {
    enum device_stream_state state; /* IDLE: work runs */
    uint64_t capture;               /* its number, never reused; INVALIDATED: 0 if the driver does not tell */
};

struct device_description {
    char name[64];
    uint64_t identity; /* equal on all ranks that may form a communicator, 0: any */
    int version;       /* of the driver, as it counts; equal on all ranks; 0: there is none */
    /* What is known to be wrong with that driver: a sentence in static storage; NULL: nothing. The vendor's collectives then stand in
     * only where the setting TUTTI_GPU_VENDOR says always. */
    const char *caution;
};

struct device_ops {
    uint32_t abi; /* DEVICE_ABI */
    const char *name;

    bool deterministic; /* the same bits on all ranks, whatever the protocol */
    /* Optional: the same devices through their vendor's collectives, for ranks that cannot share memory, where the caller
     * allows it or the setting TUTTI_GPU_VENDOR says so. Opens and closes devices just as this one does. */
    const struct device_ops *vendor;

    /* All of these are required. */

    const struct graph_ops *graphs; /* device/graphs.h */

    /* How many devices there are; 0 with the reason in `text` if the backend cannot be used. */
    int (*probe)(char *text, size_t text_bytes);
    tutti_status (*open)(int ordinal, struct device **device);
    void (*close)(struct device *device);
    void (*describe)(const struct device *device, struct device_description *description);

    /* Bytes of the backend's part of a segment; a pure function of arguments that all ranks share. */
    size_t (*shared_bytes)(int world, int lanes, size_t message_bytes_max);

    /* Joins the ranks whose segments are mapped. Local; no peer is waited for. */
    tutti_status (*group_create)(const struct group_options *options, struct group **group);
    /* Refuses new work, waits for what this process has enqueued, then forgets the segments. Captured
     * work may outlive the group: running it fails. */
    void (*group_destroy)(struct group *group);
    /* Enqueues, records or (default stream of the host) runs one operation. `can_block`: false where one
     * thread drives several ranks, so that the default stream must be refused. */
    tutti_status (*group_call)(struct group *group, const struct operation *operation, const tutti_call *call,
                               bool can_block);
    /* Wakes everything that sleeps in this group, after `failed` was set. Any thread; no driver call. */
    void (*group_wake)(struct group *group);
    void (*group_stats)(struct group *group, tutti_stats *stats);
    /* The protocol for a message of this kind; fills all fields but struct_bytes. */
    void (*group_plan)(const struct group *group, const struct operation *operation, tutti_plan_t *plan);

    /* What `address` is, for this group. A pointer to nothing is no error, but MEMORY_UNKNOWN. Legal in any capture. DRIVER. */
    tutti_status (*group_look)(struct group *group, uint64_t address, struct memory_facts *facts);

    /* Asks a stream that lives. Legal in any capture. DRIVER. */
    tutti_status (*group_stream)(struct group *group, const void *stream, struct device_stream *out);

    /* Memory that ranks share (src/memory/); all or none, for a backend whose ranks share none. */

    /* Waits until what this process has enqueued on streams, through this group and outside of graphs, has completed. */
    void (*group_settle)(struct group *group);
    /* Takes over what is left of a communicator's allocations when that ends, and frees it (symmetric_free) once neither graphs
     * nor peers can use it. Before group_destroy, once at most. */
    void (*group_keep)(struct group *group, struct symmetric *list);

    /* At least `bytes`, zeroed, for the caller's data; class FD or IPC, as *facts says. DRIVER, SYSTEM. */
    tutti_status (*memory_create)(struct device *device, size_t bytes, struct memory_block *block,
                                  struct memory_facts *facts);
    /* Gets hold of the allocation of class FD or IPC that the facts are about, so that what tells it from others stays its own
     * until memory_release. Holds of one allocation are alike (memory_alike). */
    tutti_status (*memory_hold)(struct device *device, const struct memory_facts *facts, struct memory_block *block);
    bool (*memory_alike)(const struct memory_block *held, const struct memory_block *other);
    /* What a peer needs to map the allocation that `held` holds. */
    tutti_status (*memory_export)(struct device *device, const struct memory_block *held, struct memory_export *mine);
    /* Maps a peer's allocation, `fd` -1 if the peer is of this process. */
    tutti_status (*memory_import)(struct device *device, const struct memory_export *theirs,
                                  struct memory_block *block);
    /* Undoes create (nobody uses it any more), hold, import or place. */
    void (*memory_release)(struct device *device, struct memory_block *block);

    /* Optional, all or none: addresses without memory, and a peer's VMM memory mapped at one of them, so that several allocations lie
     * back to back. Addresses are given back when nothing is mapped there any more. */
    tutti_status (*memory_reserve)(struct device *device, uint64_t bytes, uint64_t *address);
    void (*memory_unreserve)(struct device *device, uint64_t address, uint64_t bytes);
    tutti_status (*memory_place)(struct device *device, const struct memory_export *theirs, uint64_t address,
                                 struct memory_block *block);

    /* These are optional: the first four all or none, for a backend whose memory the segments do not hold. Creation
     * calls them in this order, and goes on once all ranks have come so far. */

    /* Says what the peers need to reach this rank's memory, which is ready for them to write to. */
    tutti_status (*group_export)(struct group *group, struct memory_export *mine);
    /* For every rank in order, also this one (fd -1). */
    tutti_status (*group_import)(struct group *group, int rank, const struct memory_export *theirs);
    /* Enqueues a trial in which all ranks take part, then waits for its end, at most limit_ms. The first never blocks: one
     * thread may drive all ranks. */
    tutti_status (*group_probe_begin)(struct group *group, uint32_t limit_ms);
    tutti_status (*group_probe_end)(struct group *group);
    /* Looks for failures that the device has written down, and tells it those that the communicator knows of. From the
     * watchdog's thread every few milliseconds, and from any thread that asks for the status; no driver call. True: a call has
     * failed, and if the communicator has not, the peer that knows why is about to say so. */
    bool (*group_poll)(struct group *group);
    /* After a failure: ends what a failure alone does not end, work that waits on the device for ranks that will not come. From
     * threads of the caller's only; may call the driver, and may come again. */
    void (*group_abandon)(struct group *group);
    /* These two both or none, for a backend whose captured calls look into a table whether their ranks' buffers may be used
     * directly (kernels/arguments.h, struct direct_entry; as many as the setting TUTTI_SLOTS says). Writes entries [first, first +
     * count) and waits until kernels see them; in its place each word changes at once. DRIVER. */
    tutti_status (*group_entries_write)(struct group *group, const struct direct_entry *entries, uint32_t first,
                                        uint32_t count);
    /* Waits until no call that had looked into the table before runs any more, launches of graphs included. Legal in any capture.
     * DRIVER. */
    tutti_status (*group_quiesce)(struct group *group);

    /* Adds what the group holds beyond the segments: memory that this rank contributes, and what it has mapped. */
    void (*group_memory)(const struct group *group, uint64_t *arena_bytes, uint64_t *mapped_bytes);
};

/* What stands for an optional entry that a backend does not have. */
bool device_poll(const struct device_ops *ops, struct group *group);
void device_abandon(const struct device_ops *ops, struct group *group);
void device_memory(const struct device_ops *ops, const struct group *group, uint64_t *arena_bytes,
                   uint64_t *mapped_bytes);

/* Whether the backend shares memory of its own, so that creation has more steps; and whether it wants to be polled. */
bool device_shares(const struct device_ops *ops);
bool device_polls(const struct device_ops *ops);

/* The index-th backend, best first; NULL past the last. */
const struct device_ops *device_backend(size_t index);

/* The backend called `name`, or the best usable one for NULL. UNSUPPORTED with a sentence that names why each
 * was passed over; `why` (256 bytes) receives the reason for the choice. */
tutti_status device_choose(const char *name, const struct device_ops **ops, char *why, size_t why_bytes);

#endif
