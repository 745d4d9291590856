/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - how a failure becomes one sentence for the caller (tutti_last_error). */
#ifndef TUTTI_BASE_ERROR_H
#define TUTTI_BASE_ERROR_H

#include "tutti/tutti.h"

/* Bytes of a sentence with its terminating zero; a longer one is cut. */
#define ERROR_SENTENCE_BYTES 512

/* Leaves the sentence for this thread and returns `status`, so that a function can end with
 * `return error_set(TUTTI_ERR_ARGUMENT, "rank %d is not below world %d", rank, world);`. Written once, where
 * the failure is detected, for the person who must act on it. */
tutti_status error_set(tutti_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* error_set for a failed system call: appends ": " and errno's text. Returns TUTTI_ERR_SYSTEM. */
tutti_status error_set_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How many failures this thread has described: whether a callback that failed has left a sentence of its own. */
uint64_t error_count(void);

#endif
