/* SPDX-License-Identifier: Apache-2.0 */
/* tables.h - the tables that simd.c chooses from, one a file. Each exists where its architecture does. */
#ifndef TUTTI_DEVICE_HOST_SIMD_TABLES_H
#define TUTTI_DEVICE_HOST_SIMD_TABLES_H

#include "device/host/simd/simd.h"

extern const struct simd_table simd_table_portable;

#if defined(__x86_64__)
extern const struct simd_table simd_table_avx2;   /* AVX2 and F16C */
extern const struct simd_table simd_table_avx512; /* AVX-512 F, BW, VL and DQ */
#endif

#endif
