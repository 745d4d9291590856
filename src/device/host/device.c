/* SPDX-License-Identifier: Apache-2.0 */
/* device.c - the host backend's entry in the list of backends. Its one device is the machine's cores. */
#include "device/device.h"

#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "device/host/group.h"
#include "device/host/host_device.h"
#include "device/host/host_graphs.h"
#include "device/host/memory.h"
#include "device/host/simd/simd.h"

struct device {
    int ordinal;
};
static struct device machine; /* stateless: everybody's */

static const char *const architecture =
#if defined(__x86_64__)
    "x86-64";
#elif defined(__aarch64__)
    "aarch64";
#else
    "this architecture";
#endif

static void describe_machine(char *text, size_t text_bytes)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    (void)snprintf(text, text_bytes, "%s %s, %ld core%s", architecture, simd_table()->name, cores,
                   cores == 1 ? "" : "s");
}

static int host_probe(char *text, size_t text_bytes)
{
    if (simd_check() != TUTTI_OK) {
        (void)snprintf(text, text_bytes, "%s", tutti_last_error());
        return 0;
    }
    describe_machine(text, text_bytes);
    return 1;
}

static tutti_status host_open(int ordinal, struct device **out)
{
    if (ordinal != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "device %d: the host backend has device 0 only", ordinal);
    }
    tutti_status status = simd_check();
    if (status != TUTTI_OK) {
        return status;
    }
    *out = &machine;
    return TUTTI_OK;
}

static void host_close(struct device *device)
{
    (void)device;
}

static void host_describe(const struct device *device, struct device_description *description)
{
    (void)device;
    describe_machine(description->name, sizeof(description->name));
    description->identity = 0; /* any core of the machine reaches any other */
}

const struct device_ops device_host_ops = {
    .abi = DEVICE_ABI,
    .name = "host",
    .deterministic = true,
    .graphs = &host_graph_ops,
    .probe = host_probe,
    .open = host_open,
    .close = host_close,
    .describe = host_describe,
    .shared_bytes = group_shared_bytes,
    .group_create = group_create,
    .group_destroy = group_destroy,
    .group_call = group_call,
    .group_wake = group_wake,
    .group_stats = group_stats,
    .group_plan = group_plan,
    .group_look = host_group_look,
    .group_stream = group_stream,
    .group_settle = group_settle,
    .group_keep = group_keep,
    .memory_create = host_memory_create,
    .memory_hold = host_memory_hold,
    .memory_alike = host_memory_alike,
    .memory_export = host_memory_export,
    .memory_import = host_memory_import,
    .memory_release = host_memory_release,
};
