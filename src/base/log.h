/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - lines on standard error for whoever set TUTTI_LOG; silent otherwise. */
#ifndef TUTTI_BASE_LOG_H
#define TUTTI_BASE_LOG_H

enum log_level { LOG_WARN, LOG_INFO };

/* One line "tutti: ..."; a longer one than 1 KiB is cut. Any thread; written with one call, so that the lines of
 * several ranks do not mix. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
