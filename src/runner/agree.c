/* SPDX-License-Identifier: Apache-2.0 */
/* agree.c - what ranks tell each other of a capture: whether they capture the same thing, and which buckets none of them may keep. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runner/runner.h"

#define WORDS_OF_BUCKETS ((TUTTI_RUNNER_BUCKETS_MAX + 1 + 63) / 64)

/* Of one rank. */
struct agree_word {
    int32_t status; /* TUTTI_OK, or it cannot take part: `sentence` */
    uint32_t segments, buckets, flags, attempts;
    uint32_t cold, in_session, rows;
    uint32_t spoken_of; /* the bucket whose reason the sentence is, if status is TUTTI_OK */
    uint64_t name_hash, segments_hash, buckets_hash;
    uint64_t chosen[WORDS_OF_BUCKETS], failed[WORDS_OF_BUCKETS];
    char sentence[RUNNER_REASON_BYTES];
};
_Static_assert(sizeof(struct agree_word) <= CONTROL_MAIL_BYTES, "it fits an exchange");

/* FNV-1a, Fowler, Noll and Vo. */
#define HASH_BEGIN 0xcbf29ce484222325u

static uint64_t hash(uint64_t sum, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    for (size_t index = 0; index < count; index++) {
        sum = (sum ^ at[index]) * 0x100000001b3u;
    }
    return sum;
}

static uint64_t segments_hash(const tutti_runner *runner)
{
    uint64_t sum = HASH_BEGIN;
    for (int index = 0; index < runner->segment_count; index++) {
        const struct runner_segment *segment = &runner->segments[index];
        const uint64_t fixed_rows = segment->fixed_rows;
        sum = hash(sum, segment->name, sizeof(segment->name)); /* zeros behind the name */
        sum = hash(sum, &segment->flags, sizeof(segment->flags));
        sum = hash(sum, &fixed_rows, sizeof(fixed_rows));
    }
    return sum;
}

static uint64_t buckets_hash(const tutti_runner *runner)
{
    uint64_t sum = HASH_BEGIN;
    for (size_t index = 0; index < runner->bucket_count; index++) {
        const uint64_t rows = runner->buckets[index].rows;
        sum = hash(sum, &rows, sizeof(rows));
    }
    return sum;
}

static bool bit_get(const uint64_t *bits, size_t index)
{
    return (bits[index / 64] >> (index % 64) & 1u) != 0;
}

static void bit_set(uint64_t *bits, size_t index)
{
    bits[index / 64] |= (uint64_t)1 << (index % 64);
}

static void word_fill(const tutti_runner *runner, const struct runner_verdict *mine, struct agree_word *word)
{
    memset(word, 0, sizeof(*word));
    word->status = mine->status;
    word->segments = (uint32_t)runner->segment_count;
    word->buckets = (uint32_t)runner->bucket_count;
    word->flags = runner->flags;
    word->attempts = runner->attempts;
    word->cold = !runner->warm;
    word->in_session = mine->in_session;
    word->rows = (uint32_t)mine->rows;
    word->name_hash = hash(HASH_BEGIN, runner->name, sizeof(runner->name));
    word->segments_hash = segments_hash(runner);
    word->buckets_hash = buckets_hash(runner);
    word->spoken_of = UINT32_MAX;
    if (mine->status != TUTTI_OK) {
        (void)snprintf(word->sentence, sizeof(word->sentence), "%s", mine->sentence);
    }
    for (size_t index = 0; index < bucket_total(runner); index++) {
        const struct runner_bucket *bucket = bucket_at(runner, index);
        if (bucket->chosen) {
            bit_set(word->chosen, index);
        }
        if (!bucket->chosen || !bucket->failed) {
            continue;
        }
        bit_set(word->failed, index);
        if (mine->status == TUTTI_OK) { /* the last one is the largest, which was tried first */
            word->spoken_of = (uint32_t)index;
            (void)snprintf(word->sentence, sizeof(word->sentence), "%s", bucket->reason);
        }
    }
}

/* -- the same on all ranks, because it is computed from the same words -------------------------------------------- */

static tutti_status compare(const tutti_runner *runner, const struct agree_word *words, int rank)
{
    const struct agree_word *first = &words[0];
    const struct agree_word *other = &words[rank];
    const char *what = NULL;
    if (other->name_hash != first->name_hash) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d captures another runner than rank 0, by its name: one is \"%s\"",
                         rank, runner->name);
    }
    if (other->segments != first->segments) {
        return error_set(TUTTI_ERR_MISMATCH, "%s: rank %d has %u segments where rank 0 has %u: add the same ones",
                         runner->name, rank, other->segments, first->segments);
    }
    if (other->segments_hash != first->segments_hash) {
        what = "other segments (their names, order or kinds)";
    } else if (other->buckets != first->buckets || other->buckets_hash != first->buckets_hash) {
        what = "other buckets";
    } else if (other->flags != first->flags || other->attempts != first->attempts) {
        what = "other flags or attempts";
    } else if (memcmp(other->chosen, first->chosen, sizeof(other->chosen)) != 0) {
        what = "other buckets captured or released";
    }
    return what == NULL ? TUTTI_OK
                        : error_set(TUTTI_ERR_MISMATCH, "%s: rank %d has %s than rank 0: nothing was captured",
                                    runner->name, rank, what);
}

/* A run's row count is compared here only, where the ranks meet anyway. */
static tutti_status compare_rows(const tutti_runner *runner, const struct agree_word *words, int rank)
{
    uint32_t first = words[0].rows;
    uint32_t other = words[rank].rows;
    if (first == other || words[rank].name_hash != words[0].name_hash) { /* compare() says that */
        return TUTTI_OK;
    }
    if (first == 0 || other == 0) {
        return error_set(TUTTI_ERR_MISMATCH, "%s: rank %d captures %s, rank 0 %s: nothing was captured", runner->name,
                         rank, other != 0 ? "at the end of a run" : "by a call of its own",
                         first != 0 ? "at the end of a run" : "by a call of its own");
    }
    return error_set(TUTTI_ERR_MISMATCH,
                     "%s: rank %d has run %u rows and rank 0 %u: all ranks run the same number; what this run left is "
                     "not good",
                     runner->name, rank, other, first);
}

static tutti_status words_judge(const tutti_runner *runner, const struct agree_word *words)
{
    int world = runner->comm->world;
    tutti_status status = TUTTI_OK;
    for (int rank = 1; rank < world && status == TUTTI_OK; rank++) {
        status = compare_rows(runner, words, rank);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    for (int rank = 0; rank < world; rank++) {
        if (words[rank].status != TUTTI_OK) {
            return error_set(words[rank].status, "%s: rank %d cannot capture: %.*s", runner->name, rank,
                             RUNNER_REASON_BYTES, words[rank].sentence);
        }
    }
    for (int rank = 1; rank < world && status == TUTTI_OK; rank++) {
        status = compare(runner, words, rank);
    }
    return status;
}

/* Whose reason stands, on all ranks: the first one that failed. Negative: none did. */
static int rank_failed(const struct agree_word *words, int world, size_t index)
{
    int rank = 0;
    while (rank < world && !bit_get(words[rank].failed, index)) {
        rank++;
    }
    return rank < world ? rank : -1;
}

static void bucket_judge(const tutti_runner *runner, const struct agree_word *words, size_t index)
{
    struct runner_bucket *bucket = bucket_at(runner, index);
    int rank = rank_failed(words, runner->comm->world, index);
    if (rank < 0) {
        return;
    }
    bucket->failed = true;
    if (words[rank].spoken_of == index) { /* else it comes with reasons_exchange */
        (void)snprintf(bucket->reason, sizeof(bucket->reason), "%.*s", RUNNER_REASON_BYTES - 1, words[rank].sentence);
    }
}

static tutti_status judge(const tutti_runner *runner, const struct agree_word *words)
{
    tutti_status status = words_judge(runner, words);
    for (size_t index = 0; index < bucket_total(runner) && status == TUTTI_OK; index++) {
        bucket_judge(runner, words, index);
    }
    return status;
}

/* -- the reasons of buckets that are not the largest one ---------------------------------------------------------- */

#define INDEX_NONE SIZE_MAX

/* The `before`-th bucket that failed on this rank, from the largest on. */
static size_t failed_behind(const struct agree_word *word, size_t before)
{
    for (size_t index = (size_t)word->buckets + 1; index-- > 0;) {
        if (bit_get(word->failed, index) && before-- == 0) {
            return index;
        }
    }
    return INDEX_NONE;
}

static void reason_take(const tutti_runner *runner, const struct agree_word *words, size_t round, const char *reasons)
{
    for (int rank = 0; rank < runner->comm->world; rank++) {
        size_t index = failed_behind(&words[rank], round);
        if (index != INDEX_NONE && rank_failed(words, runner->comm->world, index) == rank) {
            struct runner_bucket *bucket = bucket_at(runner, index);
            (void)snprintf(bucket->reason, sizeof(bucket->reason), "%.*s", RUNNER_REASON_BYTES - 1,
                           reasons + (size_t)rank * RUNNER_REASON_BYTES);
        }
    }
}

static tutti_status reason_post(const tutti_runner *runner, const struct agree_word *words, size_t round)
{
    char mine[RUNNER_REASON_BYTES] = "";
    size_t index = failed_behind(&words[runner->comm->rank], round);
    if (index != INDEX_NONE) {
        memcpy(mine, bucket_at(runner, index)->reason, sizeof(mine));
    }
    return comm_exchange_post(runner->comm, mine, sizeof(mine));
}

/* All ranks count the same, from the same words. */
static bool is_left(const struct agree_word *words, int world, size_t round)
{
    for (int rank = 0; rank < world; rank++) {
        if (failed_behind(&words[rank], round) != INDEX_NONE) {
            return true;
        }
    }
    return false;
}

/* [collective] In each round one bucket of every rank's. */
static tutti_status reasons_exchange(tutti_runner *const *runners, int count, const struct agree_word *words,
                                     char *reasons)
{
    tutti_status status = TUTTI_OK;
    for (size_t round = 1; status == TUTTI_OK && is_left(words, runners[0]->comm->world, round); round++) {
        for (int each = 0; each < count && status == TUTTI_OK; each++) {
            status = reason_post(runners[each], words, round);
        }
        for (int each = 0; each < count && status == TUTTI_OK; each++) {
            status = comm_exchange_collect(runners[each]->comm, reasons, RUNNER_REASON_BYTES);
            if (status == TUTTI_OK) {
                reason_take(runners[each], words, round, reasons);
            }
        }
    }
    return status;
}

/* -- the exchange -------------------------------------------------------------------------------------------------- */

/* Peers wait for this rank, which cannot hear them. */
static tutti_status no_memory(tutti_comm *comm)
{
    struct failure failure = {TUTTI_ERR_SYSTEM, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d is out of memory for what its peers captured",
                   comm->rank);
    comm_fail(comm, &failure);
    return error_set(TUTTI_ERR_SYSTEM, "%s", failure.sentence);
}

static void accord_fill(const struct agree_word *words, int world, struct runner_accord *accord)
{
    *accord = (struct runner_accord){false, false, false};
    for (int rank = 0; rank < world; rank++) {
        accord->cold = accord->cold || words[rank].cold != 0;
        accord->in_session = accord->in_session || words[rank].in_session != 0;
        accord->runs_differ =
            accord->runs_differ || words[rank].rows != words[0].rows || words[rank].name_hash != words[0].name_hash;
    }
}

static tutti_status words_exchange(tutti_runner *const *runners, const struct runner_verdict *mine, int count,
                                   struct agree_word *words)
{
    struct agree_word word;
    tutti_status status = TUTTI_OK;
    for (int index = 0; index < count && status == TUTTI_OK; index++) {
        word_fill(runners[index], &mine[index], &word);
        status = comm_exchange_post(runners[index]->comm, &word, sizeof(word));
    }
    for (int index = 0; index < count && status == TUTTI_OK; index++) { /* which gives all of them the same words */
        status = comm_exchange_collect(runners[index]->comm, words, sizeof(*words));
    }
    return status;
}

tutti_status runners_agree(tutti_runner *const *runners, const struct runner_verdict *mine, int count,
                           struct runner_accord *accord)
{
    size_t world = (size_t)runners[0]->comm->world;
    struct agree_word *words = calloc(world, sizeof(*words) + RUNNER_REASON_BYTES);
    if (words == NULL) {
        return no_memory(runners[0]->comm);
    }
    tutti_status verdict = TUTTI_OK;
    tutti_status status = words_exchange(runners, mine, count, words);
    if (status == TUTTI_OK) {
        accord_fill(words, (int)world, accord);
    }
    for (int index = 0; index < count && status == TUTTI_OK; index++) {
        verdict = judge(runners[index], words);
    }
    if (status == TUTTI_OK && verdict == TUTTI_OK) {
        status = reasons_exchange(runners, count, words, (char *)(words + world));
    }
    free(words);
    return status != TUTTI_OK ? status : verdict;
}
