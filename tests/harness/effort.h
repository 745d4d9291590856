/* SPDX-License-Identifier: Apache-2.0 */
/* effort.h - how much a test may try: less under sanitizers, more in `make test-long`. */
#ifndef TESTS_HARNESS_EFFORT_H
#define TESTS_HARNESS_EFFORT_H

#include <stdlib.h>
#include <string.h>

enum effort { EFFORT_QUICK, EFFORT_NORMAL, EFFORT_LONG };

/* TUTTI_TEST_EFFORT: quick, normal (also if unset), long. */
static inline enum effort effort(void)
{
    const char *text = getenv("TUTTI_TEST_EFFORT");
    if (text != NULL && strcmp(text, "quick") == 0) {
        return EFFORT_QUICK;
    }
    return text != NULL && strcmp(text, "long") == 0 ? EFFORT_LONG : EFFORT_NORMAL;
}

#endif
