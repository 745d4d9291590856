/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "device/gpu/images.h"

#define FILE_BYTES_MAX ((long)256 << 20)

static bool of_vendor(const struct gpu_image *image, const struct driver_vendor *vendor)
{
    return strcmp(image->vendor, vendor->backend) == 0;
}

tutti_status module_targets(const struct driver_vendor *vendor, char *text, size_t text_bytes)
{
    text[0] = 0;
    if (settings_given(SETTING_GPU_IMAGES)) {
        (void)snprintf(text, text_bytes, "those of TUTTI_GPU_IMAGES");
        return TUTTI_OK;
    }
    for (size_t index = 0; index < gpu_image_count; index++) {
        const char *target = gpu_images[index].target;
        size_t used = strlen(text);
        if (of_vendor(&gpu_images[index], vendor) && strstr(text, target) == NULL) {
            (void)snprintf(text + used, text_bytes - used, "%s%s", used > 0 ? " " : "", target);
        }
    }
    if (text[0] == 0) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "this libtutti was built without %s kernels: build it where %s is",
                         vendor->label, vendor->toolkit);
    }
    return TUTTI_OK;
}

/* `part`: ends at the first dot. */
static tutti_status module_add(const struct driver *driver, struct module_set *set, const char *part, const void *image,
                               driver_result *result)
{
    if (set->count == MODULES_MAX) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "more than %d kernel images", MODULES_MAX);
    }
    *result = driver->module_load(&set->modules[set->count], image);
    if (*result == 0) {
        (void)snprintf(set->parts[set->count], MODULE_PART_BYTES, "%.*s", (int)strcspn(part, "."), part);
        set->count++;
    }
    return TUTTI_OK;
}

/* -- images from files ------------------------------------------------------------------------------ */

/* The file's bytes and a terminating zero, which PTX needs; freed by the caller. */
static tutti_status file_read(const char *path, char **bytes)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
    }
    char *read = size >= 0 && size <= FILE_BYTES_MAX ? malloc((size_t)size + 1) : NULL;
    bool whole = read != NULL && fseek(file, 0, SEEK_SET) == 0 && fread(read, 1, (size_t)size, file) == (size_t)size;
    if (!whole) {
        tutti_status status = error_set_errno("TUTTI_GPU_IMAGES: reading %.200s", path);
        free(read);
        if (file != NULL) {
            (void)fclose(file);
        }
        return status;
    }
    (void)fclose(file);
    read[size] = 0;
    *bytes = read;
    return TUTTI_OK;
}

static tutti_status file_load(const struct driver *driver, struct module_set *set, const char *path)
{
    char *bytes = NULL;
    driver_result result = 0;
    tutti_status status = file_read(path, &bytes);
    const char *slash = strrchr(path, '/');
    if (status == TUTTI_OK) {
        status = module_add(driver, set, slash != NULL ? slash + 1 : path, bytes, &result);
    }
    if (status == TUTTI_OK && result != 0) {
        (void)driver_check(driver, offsetof(struct driver, module_load), result);
        status = error_set(TUTTI_ERR_UNSUPPORTED, "the kernels in %.160s: %.200s", path, tutti_last_error());
    }
    free(bytes);
    return status;
}

static tutti_status files_load(const struct driver *driver, struct module_set *set)
{
    char paths[512];
    (void)snprintf(paths, sizeof(paths), "%s", settings_text(SETTING_GPU_IMAGES));
    tutti_status status = TUTTI_OK;
    char *rest = NULL;
    for (char *path = strtok_r(paths, ":", &rest); path != NULL && status == TUTTI_OK;
         path = strtok_r(NULL, ":", &rest)) {
        status = file_load(driver, set, path);
    }
    return status;
}

/* -- images that were built in ---------------------------------------------------------------------- */

/* Loads the part of which images[first] is one image. */
static tutti_status part_load(const struct driver *driver, struct module_set *set, size_t first)
{
    const char *part = gpu_images[first].part;
    driver_result result = DRIVER_NO_BINARY;
    for (size_t index = first; index < gpu_image_count; index++) {
        const struct gpu_image *image = &gpu_images[index];
        if (!of_vendor(image, driver->vendor) || strcmp(image->part, part) != 0) {
            continue;
        }
        tutti_status status = module_add(driver, set, part, image->bytes, &result);
        if (status != TUTTI_OK || result == 0) {
            return status;
        }
    }
    char targets[128];
    (void)module_targets(driver->vendor, targets, sizeof(targets));
    (void)driver_check(driver, offsetof(struct driver, module_load), result);
    return error_set(TUTTI_ERR_UNSUPPORTED, "the kernels (%s) do not load on this device: %.200s (driver version %d)",
                     targets, tutti_last_error(), driver->version);
}

static bool part_is_new(size_t index)
{
    for (size_t before = 0; before < index; before++) {
        if (strcmp(gpu_images[before].vendor, gpu_images[index].vendor) == 0 &&
            strcmp(gpu_images[before].part, gpu_images[index].part) == 0) {
            return false;
        }
    }
    return true;
}

tutti_status module_load(const struct driver *driver, struct module_set *set)
{
    set->count = 0;
    tutti_status status = TUTTI_OK;
    if (settings_given(SETTING_GPU_IMAGES)) {
        status = files_load(driver, set);
    } else {
        for (size_t index = 0; index < gpu_image_count && status == TUTTI_OK; index++) {
            if (of_vendor(&gpu_images[index], driver->vendor) && part_is_new(index)) {
                status = part_load(driver, set, index);
            }
        }
    }
    if (status != TUTTI_OK) {
        module_unload(driver, set);
    }
    return status;
}

void module_unload(const struct driver *driver, struct module_set *set)
{
    while (set->count > 0) {
        (void)driver->module_unload(set->modules[--set->count]);
    }
}

tutti_status module_find(const struct driver *driver, const struct module_set *set, const char *part, const char *name,
                         int threads, driver_function *function, int *resident_blocks)
{
    driver_function found = NULL;
    driver_result result = 0;
    /* Twice: the images of this part, then all others, for files of TUTTI_GPU_IMAGES that hold more than their name says. */
    for (int index = 0; index < 2 * set->count && found == NULL; index++) {
        int module = index % set->count;
        if ((strcmp(set->parts[module], part) == 0) == (index < set->count)) {
            result = driver->module_function(&found, set->modules[module], name);
            found = result == 0 ? found : NULL;
        }
    }
    if (found == NULL) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "the kernels that were loaded have no %s (%s)", name,
                         set->count == 0 ? "none was loaded" : driver_result_name(driver, result));
    }
    /* The question makes a driver that loads kernels lazily load this one. */
    tutti_status status = DRIVER(driver, occupancy, resident_blocks, found, threads, 0);
    if (status == TUTTI_OK) {
        *function = found;
    }
    return status;
}
