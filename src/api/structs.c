/* SPDX-License-Identifier: Apache-2.0 */
#include "api/structs.h"

#include <string.h>

#include "base/error.h"

#define STRUCT_BYTES_MAX 65536u /* no header will ever need more: an unset field, most likely */

tutti_status struct_check(const char *name, const void *theirs, size_t least)
{
    if (theirs == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s is NULL", name);
    }
    size_t bytes;
    memcpy(&bytes, theirs, sizeof(bytes));
    if (bytes < least || bytes > STRUCT_BYTES_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s->struct_bytes is %zu; set it to the struct's sizeof", name, bytes);
    }
    return TUTTI_OK;
}

tutti_status struct_read(const char *name, const void *theirs, void *ours, size_t ours_bytes, size_t least)
{
    tutti_status status = struct_check(name, theirs, least);
    if (status != TUTTI_OK) {
        return status;
    }
    size_t bytes;
    memcpy(&bytes, theirs, sizeof(bytes));
    const unsigned char *tail = theirs;
    for (size_t index = ours_bytes; index < bytes; index++) {
        if (tail[index] != 0) {
            return error_set(
                TUTTI_ERR_UNSUPPORTED,
                "%s: the program was built with a newer header than this library (%s) and uses what the library "
                "does not know",
                name, tutti_version());
        }
    }
    memset(ours, 0, ours_bytes);
    memcpy(ours, theirs, bytes < ours_bytes ? bytes : ours_bytes);
    return TUTTI_OK;
}

void struct_write(void *theirs, const void *ours, size_t ours_bytes)
{
    size_t bytes;
    memcpy(&bytes, theirs, sizeof(bytes));
    memset(theirs, 0, bytes);
    memcpy(theirs, ours, bytes < ours_bytes ? bytes : ours_bytes);
    memcpy(theirs, &bytes, sizeof(bytes));
}
