/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portable.h - everything a kernel asks of its compiler, under one name for CUDA, HIP and the simulation.
 *
 * The order of memory accesses is the kernels' whole business, so every access to memory that another rank
 * or another block also touches goes through here. "System" accesses are relaxed and of system scope: single
 * words of them are never torn, and that is all that is assumed (never 128-bit atomicity).
 */
#ifndef TUTTI_KERNELS_PORTABLE_H
#define TUTTI_KERNELS_PORTABLE_H

#include "kernels/arguments.h"

struct alignas(16) vec4 {
    uint32_t x, y, z, w;
};

#if defined(TUTTI_SIMULATED)
#include "kernels/portable_simulated.h"
#elif defined(__HIP__)
#include "kernels/portable_hip.h"
#else
#include "kernels/portable_cuda.h"
#endif

#endif
