/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_nccl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define NEEDED(entry, symbol)                                                                                          \
    {                                                                                                                  \
        symbol, offsetof(struct nccl_functions, entry), true                                                           \
    }
#define OPTIONAL(entry, symbol)                                                                                        \
    {                                                                                                                  \
        symbol, offsetof(struct nccl_functions, entry), false                                                          \
    }

static const struct {
    const char *name;
    size_t offset;
    bool needed;
} symbols[] = {
    NEEDED(version, "ncclGetVersion"),
    NEEDED(error_text, "ncclGetErrorString"),
    NEEDED(unique_id, "ncclGetUniqueId"),
    NEEDED(init, "ncclCommInitRank"),
    NEEDED(destroy, "ncclCommDestroy"),
    NEEDED(group_start, "ncclGroupStart"),
    NEEDED(group_end, "ncclGroupEnd"),
    NEEDED(all_reduce, "ncclAllReduce"),
    NEEDED(reduce_scatter, "ncclReduceScatter"),
    NEEDED(all_gather, "ncclAllGather"),
    NEEDED(broadcast, "ncclBroadcast"),
    NEEDED(send, "ncclSend"),
    NEEDED(recv, "ncclRecv"),
    OPTIONAL(mem_alloc, "ncclMemAlloc"),
    OPTIONAL(mem_free, "ncclMemFree"),
    OPTIONAL(window_register, "ncclCommWindowRegister"),
    OPTIONAL(window_deregister, "ncclCommWindowDeregister"),
};

bool nccl_load(struct nccl_functions *functions, char *why, size_t why_bytes)
{
    tutti_setting_t setting = {.struct_bytes = sizeof(setting)};
    for (size_t index = 0; tutti_setting(index, &setting) == TUTTI_OK; index++) {
        if (strcmp(setting.name, "TUTTI_NCCL_LIBRARY") == 0) {
            break;
        }
    }
    void *library = dlopen(setting.value, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)snprintf(why, why_bytes, "no NCCL: %.200s (TUTTI_NCCL_LIBRARY says where it is)", dlerror());
        return false;
    }
    for (size_t index = 0; index < sizeof(symbols) / sizeof(symbols[0]); index++) {
        void *found = dlsym(library, symbols[index].name);
        if (found == NULL && symbols[index].needed) {
            (void)snprintf(why, why_bytes, "%.200s has no %s", setting.value, symbols[index].name);
            return false;
        }
        /* A function's address in an object pointer: POSIX has dlsym so. */
        memcpy((char *)functions + symbols[index].offset, &found, sizeof(found));
    }
    return true;
}
