/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* One per vendor. */
struct loading {
    const struct driver_vendor *vendor;
    pthread_once_t once;
    struct driver driver;
    tutti_status status;
    char sentence[256]; /* status is not TUTTI_OK: why */
};

static void load_cuda(void);
static void load_hip(void);
static struct loading loading_cuda = {.vendor = &driver_cuda, .once = PTHREAD_ONCE_INIT};
static struct loading loading_hip = {.vendor = &driver_hip, .once = PTHREAD_ONCE_INIT};

const char *driver_result_name(const struct driver *driver, driver_result result)
{
    const char *name = NULL;
    if (driver->error_text != NULL) {
        name = driver->error_text(result);
    } else if (driver->error_name != NULL && driver->error_name(result, &name) != 0) {
        name = NULL;
    }
    return name != NULL ? name : "unknown error";
}

static const char *entry_name(const struct driver_vendor *vendor, size_t entry)
{
    for (size_t index = 0; index < vendor->symbol_count; index++) {
        if (vendor->symbols[index].offset == entry) {
            return vendor->symbols[index].name;
        }
    }
    return "a driver call";
}

tutti_status driver_check(const struct driver *driver, size_t entry, driver_result result)
{
    if (result == 0) {
        return TUTTI_OK;
    }
    bool capture = result >= DRIVER_CAPTURE_FIRST && result <= DRIVER_CAPTURE_LAST;
    return error_set(capture ? TUTTI_ERR_CAPTURE : TUTTI_ERR_DRIVER, "%s: %s (%d)", entry_name(driver->vendor, entry),
                     driver_result_name(driver, result), result);
}

/* -- loading -------------------------------------------------------------------------------------- */

static void *library_open(const struct driver_vendor *vendor, char *why, size_t why_bytes)
{
    const char *name = settings_text(vendor->library);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        return library;
    }
    const char *text = dlerror();
    (void)snprintf(why, why_bytes, "no %s driver: %s", vendor->label, text != NULL ? text : name);
    if (settings_given(vendor->library)) {
        return NULL; /* the user said which one */
    }
    for (const char *const *other = vendor->other_names; *other != NULL && library == NULL; other++) {
        library = dlopen(*other, RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

static bool symbols_resolve(struct loading *loading, void *library)
{
    const struct driver_vendor *vendor = loading->vendor;
    for (size_t index = 0; index < vendor->symbol_count; index++) {
        const struct driver_symbol *symbol = &vendor->symbols[index];
        void *found = dlsym(library, symbol->name);
        if (found == NULL && symbol->required) {
            (void)snprintf(loading->sentence, sizeof(loading->sentence),
                           "the %s driver (%.100s) has no %s: it is too old", vendor->label,
                           settings_text(vendor->library), symbol->name);
            return false;
        }
        /* A function's address in an object pointer: POSIX has dlsym so. */
        memcpy((char *)&loading->driver + symbol->offset, &found, sizeof(found));
    }
    return true;
}

static bool version_suffices(struct loading *loading)
{
    const struct driver_vendor *vendor = loading->vendor;
    struct driver *driver = &loading->driver;
    driver_result result = driver->init(0);
    if (result == 0) {
        result = driver->version_get(&driver->version);
    }
    if (result != 0) {
        (void)snprintf(loading->sentence, sizeof(loading->sentence), "the %s driver cannot be used: %s: %s (%d)",
                       vendor->label, entry_name(vendor, offsetof(struct driver, init)),
                       driver_result_name(driver, result), result);
        return false;
    }
    if (driver->version < vendor->version_oldest) {
        (void)snprintf(loading->sentence, sizeof(loading->sentence),
                       "the %s driver is of version %d, and %d is the oldest that will do", vendor->label,
                       driver->version, vendor->version_oldest);
        return false;
    }
    return true;
}

static void load(struct loading *loading)
{
    loading->status = TUTTI_ERR_UNSUPPORTED;
    loading->driver.vendor = loading->vendor;
    void *library = library_open(loading->vendor, loading->sentence, sizeof(loading->sentence));
    /* The library is never closed again: its threads and exit handlers would outlive it. */
    if (library != NULL && symbols_resolve(loading, library) && version_suffices(loading)) {
        loading->status = TUTTI_OK;
    }
}

static void load_cuda(void)
{
    load(&loading_cuda);
}

static void load_hip(void)
{
    load(&loading_hip);
}

tutti_status driver_load(const struct driver_vendor *vendor, const struct driver **driver)
{
    bool cuda = vendor == &driver_cuda;
    struct loading *loading = cuda ? &loading_cuda : &loading_hip;
    (void)pthread_once(&loading->once, cuda ? load_cuda : load_hip);
    if (loading->status != TUTTI_OK) {
        return error_set(loading->status, "%s", loading->sentence);
    }
    *driver = &loading->driver;
    return TUTTI_OK;
}
