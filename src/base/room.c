/* SPDX-License-Identifier: Apache-2.0 */
#include "base/room.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 8

bool room_for(void *array, size_t *room, size_t count, size_t item_bytes)
{
    if (count <= *room) {
        return true;
    }
    void *items = NULL;
    size_t wanted = *room * 2 > count ? *room * 2 : count + ROOM_LEAST;
    memcpy(&items, array, sizeof(items)); /* whatever the items' type is */
    items = realloc(items, wanted * item_bytes);
    if (items == NULL) {
        return false;
    }
    memcpy(array, &items, sizeof(items));
    *room = wanted;
    return true;
}
