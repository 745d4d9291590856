/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - what the tools say about the machine they ran on. */
#ifndef TOOLS_MACHINE_H
#define TOOLS_MACHINE_H

#include <cjson/cJSON.h>
#include <stddef.h>

/* Processors this process may run on. */
int machine_cores(void);

/* "AMD EPYC", or "unknown processor". */
void machine_processor(char *name, size_t name_bytes);

/* The instruction sets that matter here and that the processor has: "sse4.2 avx avx2 f16c". */
void machine_features(char *names, size_t names_bytes);

/* A new object: architecture, processor, cores, features (list), memory_bytes, kernel. The caller owns it; NULL
 * without memory. */
cJSON *machine_json(void);

#endif
