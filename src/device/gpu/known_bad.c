/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known_bad.c - the table. A row says what a user would otherwise find out by bisecting environment variables. Its consequence is the same
 * for all rows so far: the vendor's collectives, whose watchdog threads query events, stand in for ours only where the setting
 * TUTTI_GPU_VENDOR says always. Ours make no driver call from another thread, so these versions do nothing to them.
 */
#include "device/gpu/known_bad.h"

#define HIP_VERSION(major, minor, build) ((major)*10000000 + (minor)*100000 + (build))

static const struct {
    const struct driver_vendor *vendor;
    int first, last; /* as the driver counts */
    const char *what;
} rows[] = {
    /* ROCm 7.2.0 calls itself HIP 7.2.26015; the changelog of HIP 7.2.1 names the correction. */
    {&driver_hip, HIP_VERSION(7, 2, 0), HIP_VERSION(7, 2, 26015),
     "HIP 7.2.0: an event query from any thread invalidates other threads' captures (7.2.1 does not)"},
};

const char *known_bad(const struct driver_vendor *vendor, int version)
{
    for (size_t index = 0; index < sizeof(rows) / sizeof(rows[0]); index++) {
        if (rows[index].vendor == vendor && version >= rows[index].first && version <= rows[index].last) {
            return rows[index].what;
        }
    }
    return NULL;
}
