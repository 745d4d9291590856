/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/context.h"

static tutti_status current_enter(const struct device *device, struct context_scope *scope)
{
    const struct driver *driver = device->driver;
    if (driver->context_push != NULL) {
        return DRIVER(driver, context_push, device->context);
    }
    tutti_status status = DRIVER(driver, current_get, &scope->former_ordinal);
    if (status == TUTTI_OK && scope->former_ordinal != device->ordinal) {
        status = DRIVER(driver, current_set, device->ordinal);
    }
    return status;
}

tutti_status context_enter(const struct device *device, enum context_purpose purpose, struct context_scope *scope)
{
    *scope = (struct context_scope){.driver = device->driver, .former_ordinal = device->ordinal};
    tutti_status status = current_enter(device, scope);
    if (status != TUTTI_OK || purpose == CONTEXT_ENQUEUES) {
        return status;
    }
    scope->former_mode = DRIVER_MODE_RELAXED;
    status = DRIVER(device->driver, capture_mode_exchange, &scope->former_mode);
    scope->relaxed = status == TUTTI_OK;
    if (status != TUTTI_OK) {
        context_leave(scope);
    }
    return status;
}

void context_leave(const struct context_scope *scope)
{
    const struct driver *driver = scope->driver;
    if (scope->relaxed) {
        int mode = scope->former_mode;
        (void)driver->capture_mode_exchange(&mode);
    }
    if (driver->context_pop != NULL) {
        driver_context popped = NULL;
        (void)driver->context_pop(&popped);
        return;
    }
    int now = scope->former_ordinal;
    if (driver->current_get(&now) == 0 && now != scope->former_ordinal) {
        (void)driver->current_set(scope->former_ordinal);
    }
}
