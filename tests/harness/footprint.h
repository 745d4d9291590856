/* SPDX-License-Identifier: Apache-2.0 */
/* footprint.h - what a process holds that memory calls could leave behind: descriptors, mapped files, and what the communicator
 * says of itself. Taken while no other thread of the process makes or frees anything, but other footprints. */
#ifndef TESTS_HARNESS_FOOTPRINT_H
#define TESTS_HARNESS_FOOTPRINT_H

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "tutti/tutti.h"

struct footprint {
    int descriptors, mappings;
    uint64_t arena_bytes, mapped_bytes, symmetric_count, symmetric_bytes;
};

/* comm may be NULL. */
static inline struct footprint footprint_take(tutti_comm *comm)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* looking takes descriptors, too */
    struct footprint found = {0};
    char line[512];
    (void)pthread_mutex_lock(&lock);
    DIR *directory = opendir("/proc/self/fd");
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(directory != NULL && maps != NULL, "/proc/self");
    while (readdir(directory) != NULL) {
        found.descriptors++;
    }
    while (fgets(line, sizeof(line), maps) != NULL) {
        found.mappings += strstr(line, "memfd:") != NULL;
    }
    (void)closedir(directory);
    (void)fclose(maps);
    (void)pthread_mutex_unlock(&lock);
    if (comm != NULL) {
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(comm, &info));
        found.arena_bytes = info.arena_bytes;
        found.mapped_bytes = info.mapped_bytes;
        found.symmetric_count = info.symmetric_count;
        found.symmetric_bytes = info.symmetric_bytes;
    }
    return found;
}

/* Another rank of this process may still be at the end of the call that this one has returned from: looks again for a second. */
static inline void footprint_same(const struct footprint *before, struct footprint *after, const char *when)
{
    for (int look = 0; look < 100 && (before->descriptors != after->descriptors || before->mappings != after->mappings);
         look++) {
        (void)usleep(10000);
        struct footprint now = footprint_take(NULL);
        after->descriptors = now.descriptors;
        after->mappings = now.mappings;
    }
    CHECK(before->descriptors == after->descriptors, "%s: %d descriptors instead of %d", when, after->descriptors,
          before->descriptors);
    CHECK(before->mappings == after->mappings, "%s: %d files mapped instead of %d", when, after->mappings,
          before->mappings);
    CHECK(before->arena_bytes == after->arena_bytes && before->mapped_bytes == after->mapped_bytes &&
              before->symmetric_count == after->symmetric_count && before->symmetric_bytes == after->symmetric_bytes,
          "%s: the communicator has %llu bytes, %llu mapped, in %llu allocations", when,
          (unsigned long long)after->arena_bytes, (unsigned long long)after->mapped_bytes,
          (unsigned long long)after->symmetric_count);
}

#endif
