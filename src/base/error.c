/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_sentence[ERROR_SENTENCE_BYTES];
static _Thread_local uint64_t sentences;

const char *tutti_last_error(void)
{
    return last_sentence;
}

uint64_t error_count(void)
{
    return sentences;
}

tutti_status error_set(tutti_status status, const char *format, ...)
{
    /* Through a second buffer: an argument may be the last sentence itself. */
    char sentence[ERROR_SENTENCE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    memcpy(last_sentence, sentence, sizeof(sentence));
    sentences++;
    return status;
}

tutti_status error_set_errno(const char *format, ...)
{
    int number = errno;
    char what[ERROR_SENTENCE_BYTES / 2];
    char why[128];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    /* The GNU form, which _GNU_SOURCE selects: it returns the text, in `why` or elsewhere. */
    return error_set(TUTTI_ERR_SYSTEM, "%s: %s", what, strerror_r(number, why, sizeof(why)));
}

const char *tutti_status_name(tutti_status status)
{
    switch (status) {
    case TUTTI_OK:
        return "TUTTI_OK";
    case TUTTI_ERR_ARGUMENT:
        return "TUTTI_ERR_ARGUMENT";
    case TUTTI_ERR_UNSUPPORTED:
        return "TUTTI_ERR_UNSUPPORTED";
    case TUTTI_ERR_CAPTURE:
        return "TUTTI_ERR_CAPTURE";
    case TUTTI_ERR_DRIVER:
        return "TUTTI_ERR_DRIVER";
    case TUTTI_ERR_SYSTEM:
        return "TUTTI_ERR_SYSTEM";
    case TUTTI_ERR_MISMATCH:
        return "TUTTI_ERR_MISMATCH";
    case TUTTI_ERR_TIMEOUT:
        return "TUTTI_ERR_TIMEOUT";
    case TUTTI_ERR_PEER_LOST:
        return "TUTTI_ERR_PEER_LOST";
    case TUTTI_ERR_ABORTED:
        return "TUTTI_ERR_ABORTED";
    }
    return "unknown status";
}
