/* SPDX-License-Identifier: Apache-2.0 */
#include "device/vendor/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

struct loading {
    enum setting setting;
    const char *setting_name;
    const char *const *other_names; /* tried if the setting is not given; NULL ends them */
    pthread_once_t once;
    struct vendor_library library;
    tutti_status status;
    char sentence[256]; /* status is not TUTTI_OK: why */
};

static const char *const nccl_names[] = {"libnccl.so", NULL};
static const char *const rccl_names[] = {"librccl.so", NULL};
static struct loading nccl = {.setting = SETTING_NCCL_LIBRARY,
                              .setting_name = "TUTTI_NCCL_LIBRARY",
                              .other_names = nccl_names,
                              .once = PTHREAD_ONCE_INIT,
                              .library = {.name = "NCCL", .protocol = "nccl"}};
static struct loading rccl = {.setting = SETTING_RCCL_LIBRARY,
                              .setting_name = "TUTTI_RCCL_LIBRARY",
                              .other_names = rccl_names,
                              .once = PTHREAD_ONCE_INIT,
                              .library = {.name = "RCCL", .protocol = "rccl"}};

#define SYMBOL(entry, name)                                                                                            \
    {                                                                                                                  \
        name, offsetof(struct vendor_library, entry)                                                                   \
    }
static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    SYMBOL(version_get, "ncclGetVersion"),
    SYMBOL(error_text, "ncclGetErrorString"),
    SYMBOL(last_error, "ncclGetLastError"),
    SYMBOL(unique_id, "ncclGetUniqueId"),
    SYMBOL(init, "ncclCommInitRankConfig"),
    SYMBOL(abort, "ncclCommAbort"),
    SYMBOL(async_error, "ncclCommGetAsyncError"),
    SYMBOL(group_start, "ncclGroupStart"),
    SYMBOL(group_end, "ncclGroupEnd"),
    SYMBOL(all_reduce, "ncclAllReduce"),
    SYMBOL(reduce_scatter, "ncclReduceScatter"),
    SYMBOL(all_gather, "ncclAllGather"),
    SYMBOL(broadcast, "ncclBroadcast"),
    SYMBOL(send, "ncclSend"),
    SYMBOL(recv, "ncclRecv"),
};

static void *library_open(struct loading *loading)
{
    void *library = dlopen(settings_text(loading->setting), RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        return library;
    }
    const char *text = dlerror();
    (void)snprintf(loading->sentence, sizeof(loading->sentence), "no %s: %.140s (%s says where it is)",
                   loading->library.name, text != NULL ? text : "", loading->setting_name);
    if (settings_given(loading->setting)) {
        return NULL; /* the user said which one */
    }
    for (const char *const *other = loading->other_names; *other != NULL && library == NULL; other++) {
        library = dlopen(*other, RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

static void load(struct loading *loading)
{
    loading->status = TUTTI_ERR_UNSUPPORTED;
    void *library = library_open(loading); /* never closed again: it has threads */
    if (library == NULL) {
        return;
    }
    for (size_t index = 0; index < sizeof(symbols) / sizeof(symbols[0]); index++) {
        void *found = dlsym(library, symbols[index].name);
        if (found == NULL) {
            (void)snprintf(loading->sentence, sizeof(loading->sentence),
                           "%s (%.100s) has no %s: version 2.14 is the oldest that will do", loading->library.name,
                           settings_text(loading->setting), symbols[index].name);
            return;
        }
        /* A function's address in an object pointer: POSIX has dlsym so. */
        memcpy((char *)&loading->library + symbols[index].offset, &found, sizeof(found));
    }
    vendor_result result = loading->library.version_get(&loading->library.version);
    if (result != VENDOR_SUCCESS) {
        (void)snprintf(loading->sentence, sizeof(loading->sentence), "%s: ncclGetVersion: %.100s",
                       loading->library.name, loading->library.error_text(result));
        return;
    }
    loading->status = TUTTI_OK;
}

static void load_nccl(void)
{
    load(&nccl);
}

static void load_rccl(void)
{
    load(&rccl);
}

tutti_status vendor_library_load(const struct driver_vendor *vendor, const struct vendor_library **library)
{
    bool cuda = vendor == &driver_cuda;
    struct loading *loading = cuda ? &nccl : &rccl;
    (void)pthread_once(&loading->once, cuda ? load_nccl : load_rccl);
    if (loading->status != TUTTI_OK) {
        return error_set(loading->status, "%s", loading->sentence);
    }
    *library = &loading->library;
    return TUTTI_OK;
}
