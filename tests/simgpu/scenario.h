/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.h - one run of the explorer: a few ranks, a sequence of tiny calls on one or two lanes, a schedule, all
 * drawn from a seed; and the judgement of what came out.
 *
 * A run is judged by
 * - every result, bit for bit, against scalar code of the tests, and the bytes around it;
 * - every word of every inbox, SENTINEL again, and the epoch counters;
 * - time: no rank's call ends before every rank's same call has started (what two halves rest on);
 * - where a rank stays away or the host gives up: that all others leave, that the note says what it must, that no
 *   result is wrong without being marked.
 */
#ifndef TESTS_SIMGPU_SCENARIO_H
#define TESTS_SIMGPU_SCENARIO_H

#include <string>
#include <vector>

#include "simgpu/machine.h"

namespace simgpu
{

enum family : uint32_t {
    FAMILY_ONE_SHOT,
    FAMILY_TWO_SHOT,
    FAMILY_REDUCE_SCATTER,
    /* With buffers that all ranks, some, or none of them can reach; with captured calls that are replayed, and committed, taken
     * back, and superseded in their slots meanwhile. */
    FAMILY_DIRECT,
    FAMILY_DIRECT_SCATTER,
    FAMILY_DIRECT_GATHER,
    FAMILY_COPIES,
    FAMILY_WORDS,
    FAMILY_MIXED,        /* all protocols on one lane */
    FAMILY_PROGRAMMATIC, /* the same, launched programmatically, a user's kernels in between that wait */
    /* ... that never wait. Two calls then overlap, and only counters order them: the second's words may reach a peer,
     * whose next words must find the first's inbox emptied. Holds on the assumption machine_options.counters_follow_stores,
     * or with a release at system scope when the counter is advanced. */
    FAMILY_FOREIGN,
    FAMILY_LANES,   /* two lanes at the same time, programmatic, on a device that just holds one grid of each */
    FAMILY_ABSENT,  /* one rank never launches a call */
    FAMILY_LATE,    /* one rank comes when the others have given up */
    FAMILY_ABORTED, /* one rank stays away, and the host ends the waiting */
    FAMILY_COUNT,
};

const char *family_name(uint32_t family);

/* How the host ends the waiting for a rank that stays away. */
enum class ending { timeout, abort_words, note_all, note_rank };

/* Whether the ranks know a call's buffers as symmetric memory: all of them; none; or each rank draws. */
enum class votes { all, none, mixed };

#define SLOTS 2
#define NO_SLOT (-1)

/* One collective on one lane, the same on all ranks but for alignments. */
struct call {
    const char *kernel_stem; /* nullptr: a kernel without type and world in its name */
    uint32_t kind, dtype, op, root;
    uint64_t units;
    uint32_t blocks, tile_shift, lane;
    uint64_t row_bytes, row_stride;
    bool words;
    uint32_t rounds; /* direct */
    uint64_t round_units;
    enum votes votes;
    int slot; /* of a captured call, or NO_SLOT */
    uint32_t
        original;  /* the call that was captured: this one, or the one that it is a replay of, with the same buffers */
    bool produced; /* a kernel of the same stream writes the input */
    bool eager;
    bool in_place[KERNEL_WORLD_MAX];
    uint32_t src_shift[KERNEL_WORLD_MAX], dst_shift[KERNEL_WORLD_MAX]; /* bytes off a 16-byte boundary */
};

/* The hosts give a slot to a call, before another one: in between nobody runs. The commit comes then too if it is prompt, else
 * whenever a rank's host gets to it, if it does; and some take it back. */
struct grant {
    uint32_t before, call;
    int slot;
    bool prompt;
};

struct scenario {
    uint64_t seed;
    uint32_t family;
    uint32_t world, lanes;
    std::vector<struct call> calls;
    std::vector<struct grant> grants; /* in the order of `before` */
    uint64_t half_bytes, timeout_ns;
    bool programmatic, early, foreign;
    int absent;           /* rank, or -1 */
    uint32_t absent_from; /* the first call that it does not launch */
    enum ending ending;
    struct machine_options machine;
};

/* `world` 0: drawn too. */
struct scenario scenario_draw(uint64_t seed, uint32_t family, uint32_t world, uint32_t warp, uint32_t mutant);

/* Empty: all is well. */
std::string scenario_run(struct machine &machine, const struct scenario &scenario);

void scenario_print(const struct scenario &scenario);

/* -- between the parts -- */

/* Takes one of the direct protocols. */
bool call_is_direct(const struct call &call);
bool call_is_ring(const struct call &call); /* direct, and its staged way is that of kernels/ring.h */
/* Whole vectors on all ranks. */
bool call_is_whole(const struct scenario &scenario, const struct call &call);
/* Of its elements; 1: bytes. */
uint32_t call_unit_bytes(const struct call &call);
bool scenario_expects_failure(const struct scenario &scenario);

/* scenario_grants.cpp: memory of the ranks' tables and hosts. */
struct desks {
    std::vector<struct direct_entry *> tables;  /* [rank], of SLOTS */
    std::vector<struct direct_tally *> tallies; /* [lane * world + rank]: the hosts' copies */
    std::vector<uint64_t *> arrived, granted;   /* [rank]: grants that the stream has come to; that are done */
};

/* Memory of one call of one rank. */
struct buffers {
    unsigned char *src, *dst;
    uint64_t src_bytes, dst_bytes; /* extent, with gaps of rows and strides */
    unsigned char *first, *end;    /* what is around both, if in place, or around dst */
};

/* Element or byte `index` of what `rank` puts into `call`. */
uint32_t input_element(const struct scenario &scenario, uint32_t call, int rank, uint64_t index);
unsigned char input_byte(const struct scenario &scenario, uint32_t call, int rank, uint64_t index);

/* Extents of a call's buffers. */
uint64_t call_src_bytes(const struct scenario &scenario, const struct call &call);
uint64_t call_dst_bytes(const struct scenario &scenario, const struct call &call);

/* A rank's host, while the machine runs. */
struct host {
    const struct machine *machine;
    const struct scenario *scenario;
    const struct desks *desks;
    const std::vector<struct buffers> *buffers; /* [call * world + rank] */
    int rank;
};

/* What it does, for as long as *host stays where it is; and what its rank's stream does meanwhile, before grant `number`. */
void grants_launch_host(struct machine &machine, const struct host &host);
void grants_launch_gate(struct machine &machine, struct stream &stream, const struct desks &desks, uint32_t number);

/* Empty: the tallies are right. */
std::string grants_check(const struct scenario &scenario, const struct desks &desks,
                         const std::vector<uint64_t> &arenas);

void call_fill(const struct scenario &scenario, uint32_t call, int rank, const struct buffers &buffers);

/* Empty: as it must be. `may_fail`: NaN (zero for copies) is right, too. */
std::string call_check(const struct scenario &scenario, uint32_t call, int rank, const struct buffers &buffers,
                       bool may_fail);

} // namespace simgpu

#endif
