/* SPDX-License-Identifier: Apache-2.0 */
/* compute_host.h - the host's processor as a computer (compute.h). */
#ifndef TUTTI_TOOL_COMPUTE_HOST_H
#define TUTTI_TOOL_COMPUTE_HOST_H

#include "compute.h"

/* NULL with a sentence. */
struct compute *compute_host_open(char *why, size_t why_bytes);

/* compute_host_steps.c: puts a step on a host stream. */
tutti_status compute_host_enqueue(struct compute *compute, const struct forward_step *step, tutti_stream stream);

#endif
