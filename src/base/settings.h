/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - every knob of the library, in one table.
 *
 * A setting is an environment variable, read once, at its first use. `tutti info --settings` prints the
 * table and docs/settings.md is generated from it. Nothing else in src/ calls getenv, except
 * rendezvous_environment.c, which reads the launchers' variables.
 */
#ifndef TUTTI_BASE_SETTINGS_H
#define TUTTI_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

enum setting {
    SETTING_BACKEND,
    SETTING_TIMEOUT_MS,
    SETTING_CREATE_TIMEOUT_MS,
    SETTING_LOG,
    SETTING_RANK,
    SETTING_WORLD,
    SETTING_RENDEZVOUS,
    SETTING_SESSION_TOKEN,
    SETTING_HOST_SIMD,
    SETTING_HOST_SPIN_US,
    SETTING_HOST_ONE_SHOT_BYTES_MAX,
    SETTING_HOST_CHUNK_BYTES,
    SETTING_CUDA_LIBRARY,
    SETTING_HIP_LIBRARY,
    SETTING_GPU_IMAGES,
    SETTING_GPU_ARENA,
    SETTING_GPU_HALF_BYTES,
    SETTING_GPU_DIRECT_BYTES_MIN,
    SETTING_GPU_ONE_SHOT_BYTES_MAX,
    SETTING_GPU_PROGRAMMATIC,
    SETTING_SLOTS,
    SETTING_GPU_VENDOR,
    SETTING_NCCL_LIBRARY,
    SETTING_RCCL_LIBRARY,
    SETTING_COUNT
};

/* Checks every variable that is set. ARGUMENT names the first bad one, its value and what is legal. Called
 * by every entry point that makes something; a bad setting never silently becomes a default. */
tutti_status settings_check(void);
tutti_status settings_check_one(enum setting setting);

/* The value in force. Numbers for "uint" and "size" settings, text for the others ("" if unset and without
 * default). Text has static storage. */
uint64_t settings_number(enum setting setting);
const char *settings_text(enum setting setting);

/* Whether the environment sets it. */
bool settings_given(enum setting setting);

/* For comparison across ranks: the settings that must agree, as "NAME=value" lines. */
void settings_agreed_text(char *text, size_t text_bytes);

/* Fills all fields of *out but struct_bytes with the index-th row; false past the last one. Secrets are not
 * shown. */
bool settings_row(size_t index, tutti_setting_t *out);

#endif
