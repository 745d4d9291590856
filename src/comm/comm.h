/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm.h - a communicator: one rank's membership in a group of ranks.
 *
 * It owns the rank's shared segment (control page first, then the backend's part), the mappings of the
 * peers' segments, and the backend's group. Connections and the notice of dead peers belong to
 * `struct peers` (peers.h), which a communicator shares with the communicators split from it.
 *
 *   create.c    creation, step by step                split.c    subgroups
 *   assemble.c  the steps that both have in common    failure.c  the first failure, and how it spreads
 *   exchange.c  allgather over control pages          destroy.c  leaving
 *   share.c     memory that only the backend can share
 *   memory.c    memory for the caller that all ranks map
 *   commit.c    what was captured, agreed on by all ranks     session.c   capture sessions, release, suspend
 */
#ifndef TUTTI_COMM_COMM_H
#define TUTTI_COMM_COMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/control.h"
#include "comm/watchdog.h"
#include "device/device.h"
#include "tutti/tutti.h"

struct peers;
struct registry;
struct segment;
struct symmetric;

/* Something that a communicator carries and knows nothing of: told when that ends, while its device is still open; in a forked
 * child too, where the device must be left alone. */
struct comm_follower {
    void (*leave)(void *user);
    void *user;
    struct comm_follower *next;
};

struct tutti_comm {
    /* Constant from creation to destruction. */
    const struct device_ops *ops;
    struct device *device; /* owned; a child opens the device again */
    struct group *group;   /* owned; NULL only while creation is under way */
    int rank, world, lanes, ordinal;
    int processes; /* the ranks live in this many */
    uint32_t timeout_ms;
    size_t message_bytes_max;
    uint32_t flags;             /* TUTTI_COMM_* */
    bool one_thread_drives_all; /* tutti_comm_create_all: a call must never wait for another rank */
    unsigned generation;        /* process_generation() of the creator: a forked child has another */
    uint64_t create_us;
    size_t segment_bytes;
    uint64_t mapped_bytes;
    char backend_reason[256];

    struct peers *peers;                       /* counted reference */
    struct tutti_comm *next_of_family;         /* list of peers->first, under peers->lock */
    int root_rank[TUTTI_WORLD_MAX];            /* [rank]: its number in `peers` */
    struct segment *segments[TUTTI_WORLD_MAX]; /* [rank]: counted; own at [rank] */
    struct control *controls[TUTTI_WORLD_MAX]; /* [rank]: first page of segments[rank] */
    void *shared[TUTTI_WORLD_MAX];             /* [rank]: the backend's part */

    /* tutti_alloc's memory; the thread that uses the communicator. Counters: any thread reads them. */
    struct symmetric *symmetric;
    struct symmetric *abandoned; /* of calls that the communicator's failure ended half-way */
    uint64_t symmetric_serial;
    _Atomic uint64_t symmetric_count, symmetric_bytes, symmetric_mapped_bytes, allocs, frees;

    struct comm_follower *followers;
    struct tutti_capture *captures; /* sessions, open or committed */
    /* What this rank has captured; the group's property (device.h, group_options). NULL once that is destroyed. */
    struct registry *registry;

    uint32_t exchange_round;     /* the thread that uses the communicator */
    uint32_t exchange_limit_ms;  /* the timeout; during creation the time that creation may take */
    _Atomic uint64_t lost_ranks; /* bit r: the process of rank r is gone */
    pthread_mutex_t wake_lock;
    struct tick tick; /* polls the group, if its backend wants that */
    bool awake;       /* under wake_lock: `group` may be woken; not before it is made nor once its destruction began */
    bool leaving;     /* this rank destroys it */
};

/* TUTTI_OK if work may be enqueued. Else the communicator's first failure, with its sentence set for this
 * thread; ARGUMENT for NULL and in a forked child of the process that made it. Cheap: two loads. Any
 * thread. */
tutti_status comm_check(const tutti_comm *comm);

/* Reports a failure to this rank and to all peers, and wakes this process's waits (other processes look at the mark
 * at least every CLOCK_STEP_NS_MAX); the first one wins on each rank. Any thread, also from a backend that holds none of the
 * locks that its group_wake takes. */
void comm_fail(tutti_comm *comm, const struct failure *failure);

/* Out of memory for a collective call, in which the others count on this rank: the communicator's failure, and what it answers. */
tutti_status comm_give_up(tutti_comm *comm, const char *call);

/* The connection to the process of rank `root_rank` (as `peers` counts) has closed. `words`: why its creation failed, if it
 * said so, else NULL. Called by peers.c. */
void comm_peer_gone(tutti_comm *comm, int root_rank, const struct failure *words);

/* Whether `rank` has left for good. Takes over the failure for which it left, if there was one. */
bool comm_departed(tutti_comm *comm, int rank);

/* [collective] Gathers `bytes` (at most CONTROL_MAIL_BYTES) from every rank into all[world * bytes], in rank
 * order. Bounded by the communicator's timeout; a failure of the communicator, a lost or departed peer end it. An
 * expiry fails the communicator. Not where one thread drives all ranks. */
tutti_status comm_exchange(tutti_comm *comm, const void *mine, void *all, size_t bytes);

/* [collective] The same for any number of bytes, which may differ from rank to rank: sizes[rank] at all[rank], aligned to 16. On success
 * the caller frees all[0]. */
#define EXCHANGE_LONG_MAX (1u << 30)
tutti_status comm_exchange_long(tutti_comm *comm, const void *mine, size_t bytes, unsigned char **all, uint64_t *sizes);

/* The two halves of comm_exchange, for one thread that drives all ranks: first all post, then all
 * collect. */
tutti_status comm_exchange_post(tutti_comm *comm, const void *mine, size_t bytes);
tutti_status comm_exchange_collect(tutti_comm *comm, void *all, size_t bytes);

/* Whether it is rank `rank` of `world` that one tutti_comm_create_all made, of the same one as `first`. */
bool comm_is_of_family(const tutti_comm *comm, const tutti_comm *first, int rank, int world);

/* The creations behind the public calls of the same name (src/api/comm.c checks their arguments). */
tutti_status comm_create(const tutti_comm_options *options, tutti_comm **comm);
tutti_status comm_create_all(const tutti_comm_options *options, const int *devices, int world, tutti_comm **comms);
tutti_status comm_split(tutti_comm *parent, int color, int key, tutti_comm **child);

/* Local; the thread that uses the communicator. The follower lives until it is taken off, or told to leave. */
void comm_follow(tutti_comm *comm, struct comm_follower *follower, void (*leave)(void *user), void *user);
void comm_unfollow(tutti_comm *comm, const struct comm_follower *follower);

/* Waits for local work, leaves, unmaps. Also of a communicator whose creation stopped half-way. */
void comm_destroy(tutti_comm *comm);

#endif
