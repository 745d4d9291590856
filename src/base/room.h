/* SPDX-License-Identifier: Apache-2.0 */
/* room.h - arrays that grow. */
#ifndef TUTTI_BASE_ROOM_H
#define TUTTI_BASE_ROOM_H

#include <stdbool.h>
#include <stddef.h>

/* Room for `count` items of `item_bytes` in the array whose pointer lies at `array` and which has room for *room (NULL and 0 at first; freed
 * with free). It doubles. False without memory; then nothing has changed. */
bool room_for(void *array, size_t *room, size_t count, size_t item_bytes);

#endif
