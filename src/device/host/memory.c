/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/memory.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "memory/segment.h"

/* What a peer is told of a segment. */
struct segment_words {
    uint64_t device, inode, bytes;
};
_Static_assert(sizeof(struct segment_words) <= DEVICE_EXPORT_BYTES, "it fits a memory_export");

/* Whether anything is mapped there. */
static bool mapped(uint64_t address)
{
    unsigned char resident;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return address != 0 && mincore((void *)(uintptr_t)(address / page * page), (size_t)page, &resident) == 0;
}

tutti_status host_group_look(struct group *group, uint64_t address, struct memory_facts *facts)
{
    (void)group;
    bool there = mapped(address);
    *facts = (struct memory_facts){
        .class = there ? MEMORY_HOST : MEMORY_UNKNOWN, .usable = there, .threads_reach = there, .ordinal = -1};
    return TUTTI_OK;
}

static struct memory_block block_of(struct segment *segment)
{
    return (struct memory_block){(uint64_t)(uintptr_t)segment->base, segment->bytes, 0, 0, segment};
}

tutti_status host_memory_create(struct device *device, size_t bytes, struct memory_block *block,
                                struct memory_facts *facts)
{
    (void)device;
    struct segment *segment = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    tutti_status status = segment_create((bytes + page - 1) / page * page, &segment);
    if (segment != NULL) {
        *block = block_of(segment);
        *facts = (struct memory_facts){.class = MEMORY_FD,
                                       .usable = true,
                                       .threads_reach = true,
                                       .ordinal = -1,
                                       .start = block->address,
                                       .bytes = block->bytes};
    }
    return status;
}

tutti_status host_memory_hold(struct device *device, const struct memory_facts *facts, struct memory_block *block)
{
    (void)device;
    struct segment *segment = segment_at((const void *)(uintptr_t)facts->start);
    if (segment == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%p is in no segment of this process", (void *)(uintptr_t)facts->start);
    }
    *block = block_of(segment);
    return TUTTI_OK;
}

bool host_memory_alike(const struct memory_block *held, const struct memory_block *other)
{
    return held->object == other->object;
}

/* The segment's own descriptor is given away: its users map it now or never. */
tutti_status host_memory_export(struct device *device, const struct memory_block *held, struct memory_export *mine)
{
    (void)device;
    struct segment *segment = held->object;
    struct segment_words words = {segment->device, segment->inode, segment->bytes};
    int fd = segment_fd(segment);
    if (fd < 0) {
        return error_set(TUTTI_ERR_SYSTEM, "the descriptor of a segment has been given away before");
    }
    segment->fd = -1;
    memset(mine->bytes, 0, sizeof(mine->bytes));
    memcpy(mine->bytes, &words, sizeof(words));
    mine->fd = fd;
    return TUTTI_OK;
}

tutti_status host_memory_import(struct device *device, const struct memory_export *theirs, struct memory_block *block)
{
    (void)device;
    struct segment_words words;
    struct segment *segment = NULL;
    tutti_status status = TUTTI_OK;
    memcpy(&words, theirs->bytes, sizeof(words));
    if (theirs->fd >= 0) {
        status = segment_import(theirs->fd, (size_t)words.bytes, &segment);
    } else {
        segment = segment_find(words.device, words.inode, (size_t)words.bytes);
    }
    if (status == TUTTI_OK && segment == NULL) {
        status = error_set(TUTTI_ERR_SYSTEM, "a peer's segment arrived without its descriptor");
    }
    if (segment != NULL) {
        *block = block_of(segment);
    }
    return status;
}

void host_memory_release(struct device *device, struct memory_block *block)
{
    (void)device;
    segment_release(block->object);
    memset(block, 0, sizeof(*block));
}
