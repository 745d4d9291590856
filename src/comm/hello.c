/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/hello.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/settings.h"

/* The kernel's boot identity: all containers of one machine share it. */
static void machine_read(char *machine, size_t bytes)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, machine, bytes - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (got <= 1) { /* no /proc: the host's name must do */
        (void)memset(machine, 0, bytes);
        (void)gethostname(machine, bytes - 1);
        return;
    }
    machine[got] = 0;
    machine[strcspn(machine, "\n")] = 0;
}

void hello_fill(struct hello *hello)
{
    memset(hello, 0, sizeof(*hello));
    hello->magic = HELLO_MAGIC;
    (void)snprintf(hello->build, sizeof(hello->build), "%s", build_text());
    machine_read(hello->machine, sizeof(hello->machine));
    struct stat stat_of;
    hello->network_namespace = stat("/proc/self/ns/net", &stat_of) == 0 ? (uint64_t)stat_of.st_ino : 0;
    hello->user = (uint32_t)geteuid();
    settings_agreed_text(hello->settings, sizeof(hello->settings));
}

#define TERMINATE(array) ((array)[sizeof(array) - 1] = 0)

void hello_terminate(struct hello *hello)
{
    TERMINATE(hello->build);
    TERMINATE(hello->sentence);
    TERMINATE(hello->machine);
    TERMINATE(hello->backend);
    TERMINATE(hello->device_name);
    TERMINATE(hello->settings);
    TERMINATE(hello->address.name);
}

/* Ranks that do not even speak the same language, or cannot reach one another. */
static tutti_status build_compare(const struct hello *first, const struct hello *other, int rank)
{
    if (other->magic != HELLO_MAGIC) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d does not speak like this library (%s)", rank, first->build);
    }
    if (strcmp(other->build, first->build) != 0) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d runs libtutti %s, rank 0 runs %s: use one build on all ranks",
                         rank, other->build, first->build);
    }
    return TUTTI_OK;
}

static tutti_status place_compare(const struct hello *first, const struct hello *other, int rank)
{
    if (strcmp(other->machine, first->machine) != 0) {
        return error_set(TUTTI_ERR_MISMATCH,
                         "rank %d runs on another machine than rank 0: a communicator joins ranks of one machine",
                         rank);
    }
    if (other->network_namespace != first->network_namespace) {
        return error_set(TUTTI_ERR_MISMATCH,
                         "rank %d has another network namespace than rank 0 (different containers?): run them with one "
                         "network, for example --network=host",
                         rank);
    }
    if (other->user != first->user) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d runs as user %u, rank 0 as user %u: use one user", rank,
                         other->user, first->user);
    }
    return TUTTI_OK;
}

static tutti_status device_compare(const struct hello *first, const struct hello *other, int rank)
{
    if (strcmp(other->backend, first->backend) != 0) {
        return error_set(TUTTI_ERR_MISMATCH,
                         "rank %d uses backend %s, rank 0 uses %s: name one in the options or in "
                         "TUTTI_BACKEND",
                         rank, other->backend, first->backend);
    }
    if (other->device_identity != first->device_identity) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d's device (%s) cannot work with rank 0's (%s)", rank,
                         other->device_name, first->device_name);
    }
    if (other->driver_version != first->driver_version) {
        return error_set(
            TUTTI_ERR_MISMATCH,
            "rank %d has loaded another driver than rank 0: version %d there, %d here: let all ranks find the "
            "same libraries",
            rank, (int)other->driver_version, (int)first->driver_version);
    }
    return TUTTI_OK;
}

static tutti_status options_compare(const struct hello *first, const struct hello *other, int rank)
{
    if (other->lanes != first->lanes) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d asks for %d lanes, rank 0 for %d", rank, (int)other->lanes,
                         (int)first->lanes);
    }
    if (other->flags != first->flags) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d passes options->flags 0x%x, rank 0 passes 0x%x", rank,
                         other->flags, first->flags);
    }
    if (other->message_bytes_max != first->message_bytes_max) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d gives message_bytes_max %llu, rank 0 gives %llu", rank,
                         (unsigned long long)other->message_bytes_max, (unsigned long long)first->message_bytes_max);
    }
    if (other->timeout_ms != first->timeout_ms) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d has a timeout of %u ms, rank 0 of %u ms", rank, other->timeout_ms,
                         first->timeout_ms);
    }
    return TUTTI_OK;
}

/* Names the first line in which the two differ. */
static tutti_status settings_compare(const struct hello *first, const struct hello *other, int rank)
{
    const char *ours = first->settings;
    const char *theirs = other->settings;
    while (*ours != 0 || *theirs != 0) {
        size_t our_length = strcspn(ours, "\n");
        size_t their_length = strcspn(theirs, "\n");
        if (our_length != their_length || memcmp(ours, theirs, our_length) != 0) {
            return error_set(TUTTI_ERR_MISMATCH, "rank %d has %.*s, rank 0 has %.*s: set it alike on all ranks", rank,
                             (int)their_length, theirs, (int)our_length, ours);
        }
        ours += our_length + (ours[our_length] == '\n');
        theirs += their_length + (theirs[their_length] == '\n');
    }
    return TUTTI_OK;
}

static tutti_status numbering_check(const struct hello *hello, int rank, int world)
{
    if (hello->rank != rank) {
        return error_set(TUTTI_ERR_MISMATCH,
                         "in place %d is the word of a rank that calls itself %d: two ranks have one number, or the "
                         "allgather does not return rank order",
                         rank, (int)hello->rank);
    }
    if (hello->world != world) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d speaks of %d ranks, others of %d", rank, (int)hello->world,
                         world);
    }
    return TUTTI_OK;
}

static tutti_status own_trouble(const struct hello *hello, int rank)
{
    if (hello->status == TUTTI_OK) {
        return TUTTI_OK;
    }
    bool legal = hello->status < 0 && hello->status >= TUTTI_ERR_ABORTED;
    return error_set(legal ? (tutti_status)hello->status : TUTTI_ERR_SYSTEM, "rank %d: %s", rank, hello->sentence);
}

tutti_status hello_compare(const union hello_frame *all, int world)
{
    /* One kind of difference after another over all ranks: a rank in trouble is named before what follows from its
     * trouble (an unset device, say). */
    const struct hello *first = &all[0].hello;
    tutti_status status = first->magic == HELLO_MAGIC
                              ? TUTTI_OK
                              : error_set(TUTTI_ERR_MISMATCH, "rank 0 does not speak like this library");
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = build_compare(first, &all[rank].hello, rank);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = numbering_check(&all[rank].hello, rank, world);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = place_compare(first, &all[rank].hello, rank);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = own_trouble(&all[rank].hello, rank);
    }
    tutti_status (*const compares[])(const struct hello *, const struct hello *,
                                     int) = {device_compare, options_compare, settings_compare};
    for (size_t kind = 0; kind < sizeof(compares) / sizeof(compares[0]); kind++) {
        for (int rank = 1; rank < world && status == TUTTI_OK; rank++) {
            status = compares[kind](first, &all[rank].hello, rank);
        }
    }
    return status;
}
