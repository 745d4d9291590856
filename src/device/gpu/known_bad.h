/* SPDX-License-Identifier: Apache-2.0 */
/* known_bad.h - driver versions of which it is known what they do wrong, and what follows. */
#ifndef TUTTI_DEVICE_GPU_KNOWN_BAD_H
#define TUTTI_DEVICE_GPU_KNOWN_BAD_H

#include "device/gpu/driver.h"

/* One sentence without its full stop, in static storage; NULL: nothing is known against this version. */
const char *known_bad(const struct driver_vendor *vendor, int version);

#endif
