/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words.cu - P1, word-flag one-shot: the smallest copies, and the barrier.
 *
 * Wire format. A half is cut into `world` slots; slot r receives rank r's words, each as 8 bytes that are
 * written and read at once:
 *
 *     | data 32 | flag 32 |      flag = epoch with its top bit clear, so that it is never SENTINEL
 *
 * Only 64-bit atomicity is needed, and any data may be sent. The consumer writes SENTINEL to both halves after
 * reading, so that no flag of an earlier epoch can ever match (and the other protocols, which share the halves,
 * find them empty). Whoever has nothing to send (barrier; all but the root of a broadcast) sends one word all the
 * same: a call that consumes an epoch depends on all ranks. Two halves suffice as in one_shot.cu.
 *
 * One thread a (peer, word).
 */
#include "kernels/routes.h"
#include "kernels/turn.h"

PORT_DEVICE uint64_t words_of(uint64_t bytes)
{
    return bytes == 0 ? 1 : (bytes + 3) / 4;
}

PORT_DEVICE uint64_t flag_of(uint64_t epoch)
{
    return epoch & 0x7fffffffu;
}

PORT_DEVICE uint64_t *word_slot(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t owner,
                                uint32_t sender, uint64_t word)
{
    uint64_t slot_bytes = arguments.half_bytes / arguments.world / 16 * 16;
    return reinterpret_cast<uint64_t *>(slot_at(arguments, turn, owner, sender * slot_bytes + word * 8));
}

/* Waits on, after POLLS_PER_LOOK polls in vain. All ones, which is no flag, if that failed. */
PORT_COLD uint64_t receive_word_late(const struct kernel_arguments &arguments, uint64_t epoch, const uint64_t *slot,
                                     uint32_t peer)
{
    struct patience patience = {0, 0, 0};
    uint64_t pair = port_load_system8(slot);
    for (uint32_t polls = 0; pair >> 32 != flag_of(epoch); polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, epoch, patience, peer)) {
            return ~(uint64_t)0;
        }
        pair = port_load_system8(slot);
    }
    return pair;
}

/* Waits for one word from `peer` and empties its slot. */
PORT_DEVICE uint32_t receive_word(const struct kernel_arguments &arguments, struct turn &turn, uint64_t *slot,
                                  uint32_t peer)
{
    const uint64_t flag = flag_of(turn.epoch);
    uint64_t pair = port_load_system8(slot);
    for (uint32_t polls = 1; pair >> 32 != flag && polls < POLLS_PER_LOOK; polls++) {
        pair = port_load_system8(slot);
    }
    if (pair >> 32 != flag && !turn.failed) {
        pair = receive_word_late(arguments, turn.epoch, slot, peer);
        turn.failed = pair >> 32 != flag;
    }
    port_store_system8(slot, ((uint64_t)SENTINEL << 32) | SENTINEL);
    return (uint32_t)pair;
}

PORT_KERNEL(tutti_words)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const bool mine = peer == arguments.rank;
    const uint64_t begin = ((uint64_t)port_block() << arguments.tile_shift) + column;
    const uint64_t stride = (uint64_t)port_blocks() << arguments.tile_shift;
    const uint64_t outgoing = words_of(route_bytes_to(arguments));
    const uint64_t incoming = words_of(route_bytes_from(arguments, peer));

    struct turn turn = turn_begin(arguments);
    const uint64_t flag = flag_of(turn.epoch);
    for (uint64_t word = begin; !mine && !turn.failed && word < outgoing; word += stride) {
        port_store_system8(word_slot(arguments, turn, peer, arguments.rank, word),
                           flag << 32 | route_load(arguments, peer, word * 4));
    }
    turn_announce(arguments, turn); /* in place: its barrier stands between what the block reads and what it writes */
    for (uint64_t word = begin; word < incoming; word += stride) {
        if (mine) {
            route_keep(arguments, word * 4);
        } else {
            uint32_t value =
                receive_word(arguments, turn, word_slot(arguments, turn, arguments.rank, peer, word), peer);
            route_store(arguments, peer, word * 4, value);
        }
    }
    const bool failed = port_sync_or(turn.failed);
    turn_polled(arguments, turn);
    if (failed) {
        for (uint64_t word = begin; word < incoming; word += stride) {
            route_poison(arguments, peer, word * 4);
        }
    }
    turn_leave(arguments);
}
