/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TUTTI_DEVICE_HOST_HOST_DEVICE_H
#define TUTTI_DEVICE_HOST_HOST_DEVICE_H

#include "device/device.h"

extern const struct device_ops device_host_ops;

#endif
