/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copies.cu - P2c, sentinel one-shot for exact copies: all_gather, broadcast, all_to_all.
 *
 * Wire format. A half is cut into `world` slots; slot r receives rank r's message as lines of 64 bytes:
 *
 *     | 15 words of payload | mask |      bit w of the mask: payload word w was SENTINEL and travelled as 0
 *
 * The mask has 15 bits, so it is never SENTINEL itself: every word of a line is self-validating as in one_shot.cu, and
 * 94% of the wire is payload. Four neighbouring threads share a line, 16 bytes each, so that a warp's stores are
 * contiguous; they pass the mask among themselves, for which NVIDIA wants all threads of the warp.
 * Whoever has nothing to send sends one empty line: a call that consumes an epoch depends on all ranks. Two halves
 * suffice as in one_shot.cu.
 *
 * One thread a (peer, 16 bytes of line), and several lines of a long message at the same time (lines.h). tile_shift is at least 5: a warp
 * serves one peer, or one of AMD's two.
 */
#include "kernels/lines.h"

PORT_KERNEL_LARGE(tutti_copies)
{
    const struct lines_place place = lines_place_make(arguments, arguments);
    struct turn turn = turn_begin(arguments);
    exchange_lines(arguments, arguments, turn, place, true);
    const bool failed = port_sync_or(turn.failed);
    turn_polled(arguments, turn);
    if (failed) {
        poison_lines(arguments, place);
    }
    turn_leave(arguments);
}
