/* SPDX-License-Identifier: Apache-2.0 */
/* bench_sizes.c - "1K:16M", "1K:16M:x4", "1K,3K,1M": the message sizes of `tutti bench`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_options.h"

#define SIZE_BYTES_MAX ((uint64_t)1 << 36)

/* A number with K, M or G (powers of 1024), ending at *end. 0, or -1. */
static int parse_size(const char *text, const char **end, uint64_t *bytes)
{
    if (*text < '0' || *text > '9') {
        return -1;
    }
    char *unit = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &unit, 10);
    unsigned shift = 0;
    switch (*unit) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (errno != 0 || number == 0 || number > SIZE_BYTES_MAX >> shift) {
        return -1;
    }
    *bytes = (uint64_t)number << shift;
    *end = unit + (shift != 0);
    return 0;
}

/* One item: SIZE, or SIZE:SIZE, or SIZE:SIZE:xFACTOR. */
static int parse_item(const char *text, uint64_t *first, uint64_t *last, uint64_t *factor)
{
    *factor = 2;
    if (parse_size(text, &text, first) != 0) {
        return -1;
    }
    *last = *first;
    if (*text == ':') {
        if (parse_size(text + 1, &text, last) != 0 || *last < *first) {
            return -1;
        }
        if (text[0] == ':' && text[1] == 'x') {
            const char *number = text + 2;
            if (parse_size(number, &text, factor) != 0 || *factor < 2) {
                return -1;
            }
        }
    }
    return *text == '\0' ? 0 : -1;
}

int bench_sizes_parse(const char *text, uint64_t *sizes, size_t *count, char *sentence, size_t sentence_bytes)
{
    char copy[1024];
    if (strlen(text) >= sizeof(copy)) {
        (void)snprintf(sentence, sentence_bytes, "the list of sizes is too long");
        return -1;
    }
    memcpy(copy, text, strlen(text) + 1);
    char *rest = copy;
    while (rest != NULL) {
        const char *item = strsep(&rest, ",");
        uint64_t first = 0;
        uint64_t last = 0;
        uint64_t factor = 0;
        if (parse_item(item, &first, &last, &factor) != 0) {
            (void)snprintf(sentence, sentence_bytes,
                           "'%s' is no size or range: write 4096, 4K, 1K:16M or 1K:16M:x4, 1 byte to 64G", item);
            return -1;
        }
        for (uint64_t size = first; size <= last; size *= factor) {
            if (*count == BENCH_SIZES_MAX) {
                (void)snprintf(sentence, sentence_bytes, "more than %d sizes", BENCH_SIZES_MAX);
                return -1;
            }
            sizes[(*count)++] = size;
        }
    }
    return 0;
}
