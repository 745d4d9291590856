/* SPDX-License-Identifier: Apache-2.0 */
#include "device/device.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/settings.h"

extern const struct device_ops device_cuda_ops;
extern const struct device_ops device_hip_ops;
extern const struct device_ops device_host_ops;

/* Best first. */
static const struct device_ops *const backends[] = {&device_cuda_ops, &device_hip_ops, &device_host_ops};
#define BACKEND_COUNT (sizeof(backends) / sizeof(backends[0]))

bool device_shares(const struct device_ops *ops)
{
    return ops->group_export != NULL;
}

bool device_polls(const struct device_ops *ops)
{
    return ops->group_poll != NULL;
}

bool device_poll(const struct device_ops *ops, struct group *group)
{
    return ops->group_poll != NULL && ops->group_poll(group);
}

void device_abandon(const struct device_ops *ops, struct group *group)
{
    if (ops->group_abandon != NULL) {
        ops->group_abandon(group);
    }
}

void device_memory(const struct device_ops *ops, const struct group *group, uint64_t *arena_bytes,
                   uint64_t *mapped_bytes)
{
    if (ops->group_memory != NULL) {
        ops->group_memory(group, arena_bytes, mapped_bytes);
    }
}

const struct device_ops *device_backend(size_t index)
{
    return index < BACKEND_COUNT ? backends[index] : NULL;
}

static void append(char *text, size_t text_bytes, const char *name, const char *what)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, text_bytes - used, "%s%s: %s", used > 0 ? "; " : "", name, what);
}

static tutti_status choose_named(const char *name, const char *namer, const struct device_ops **ops, char *why,
                                 size_t why_bytes)
{
    char names[64] = "";
    for (size_t index = 0; index < BACKEND_COUNT; index++) {
        const struct device_ops *candidate = backends[index];
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof(names) - used, "%s%s", used > 0 ? ", " : "", candidate->name);
        if (strcmp(candidate->name, name) != 0) {
            continue;
        }
        char text[200] = "";
        if (candidate->probe(text, sizeof(text)) <= 0) {
            return error_set(TUTTI_ERR_UNSUPPORTED, "backend %s cannot be used: %s", name, text);
        }
        (void)snprintf(why, why_bytes, "%s: named by %s", name, namer);
        *ops = candidate;
        return TUTTI_OK;
    }
    return error_set(TUTTI_ERR_UNSUPPORTED, "there is no backend \"%.32s\" (named by %s); this build has: %s", name,
                     namer, names);
}

tutti_status device_choose(const char *name, const struct device_ops **ops, char *why, size_t why_bytes)
{
    if (name != NULL) {
        return choose_named(name, "the options", ops, why, why_bytes);
    }
    if (settings_given(SETTING_BACKEND)) {
        return choose_named(settings_text(SETTING_BACKEND), "TUTTI_BACKEND", ops, why, why_bytes);
    }
    char passed_over[400] = "";
    for (size_t index = 0; index < BACKEND_COUNT; index++) {
        char text[200] = "";
        if (backends[index]->probe(text, sizeof(text)) > 0) {
            (void)snprintf(why, why_bytes, "%s: the best usable backend%s%s", backends[index]->name,
                           passed_over[0] != 0 ? "; " : "", passed_over);
            *ops = backends[index];
            return TUTTI_OK;
        }
        append(passed_over, sizeof(passed_over), backends[index]->name, text);
    }
    return error_set(TUTTI_ERR_UNSUPPORTED, "no backend can be used: %s", passed_over);
}
