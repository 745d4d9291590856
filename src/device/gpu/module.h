/* SPDX-License-Identifier: Apache-2.0 */
/* module.h - the kernels of one device: images loaded once, functions found by name. */
#ifndef TUTTI_DEVICE_GPU_MODULE_H
#define TUTTI_DEVICE_GPU_MODULE_H

#include "device/gpu/driver.h"

#define MODULES_MAX 16
#define MODULE_PART_BYTES 32

struct module_set {
    driver_module modules[MODULES_MAX];
    char parts[MODULES_MAX][MODULE_PART_BYTES]; /* what each was made from: "one_shot" */
    int count;
};

/* Which targets this build or TUTTI_GPU_IMAGES has for the vendor, "sm_80 sm_90"; UNSUPPORTED if none, with what
 * is missing to build them. */
tutti_status module_targets(const struct driver_vendor *vendor, char *text, size_t text_bytes);

/* Loads every part, in the first image that the current device takes. UNSUPPORTED if a part has none. In the
 * device's context. */
tutti_status module_load(const struct driver *driver, struct module_set *set);
void module_unload(const struct driver *driver, struct module_set *set);

/* Finds a kernel and has the driver load it for good: nothing is left to do at its first launch, which may be in a
 * capture. The image of `part` is asked first, so that tools which count a driver's errors see none.
 * *resident_blocks: how many blocks of `threads` one multiprocessor holds. DRIVER, UNSUPPORTED. */
tutti_status module_find(const struct driver *driver, const struct module_set *set, const char *part, const char *name,
                         int threads, driver_function *function, int *resident_blocks);

#endif
