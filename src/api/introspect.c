/* SPDX-License-Identifier: Apache-2.0 */
/* introspect.c - what the library knows about itself and the machine. */
#include <stdio.h>
#include <string.h>

#include "api/structs.h"
#include "base/error.h"
#include "base/settings.h"
#include "device/device.h"

tutti_status tutti_backend(size_t index, tutti_backend_t *backend)
{
    tutti_status status = struct_check("tutti_backend: backend", backend, sizeof(*backend));
    if (status != TUTTI_OK) {
        return status;
    }
    const struct device_ops *ops = device_backend(index);
    if (ops == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_backend: there is no backend %zu", index);
    }
    tutti_backend_t ours;
    memset(&ours, 0, sizeof(ours));
    (void)snprintf(ours.name, sizeof(ours.name), "%s", ops->name);
    ours.device_count = ops->probe(ours.description, sizeof(ours.description));
    ours.usable = ours.device_count > 0;
    struct_write(backend, &ours, sizeof(ours));
    return TUTTI_OK;
}

tutti_status tutti_setting(size_t index, tutti_setting_t *setting)
{
    tutti_status status = struct_check("tutti_setting: setting", setting, sizeof(*setting));
    if (status != TUTTI_OK) {
        return status;
    }
    tutti_setting_t ours;
    memset(&ours, 0, sizeof(ours));
    if (!settings_row(index, &ours)) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_setting: there is no setting %zu", index);
    }
    struct_write(setting, &ours, sizeof(ours));
    return TUTTI_OK;
}
