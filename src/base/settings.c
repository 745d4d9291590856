/* SPDX-License-Identifier: Apache-2.0 */
#include "base/settings.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define VALUE_BYTES 512 /* a longer value is refused */

enum setting_type { TYPE_UINT, TYPE_SIZE, TYPE_TEXT, TYPE_CHOICE };

struct setting_row {
    const char *name;
    enum setting_type type;
    const char *default_value;
    uint64_t min, max;       /* UINT and SIZE */
    const char *choices;     /* CHOICE: "|"-separated */
    bool agreed;             /* the same on all ranks */
    bool secret;             /* never shown */
    const char *description; /* one sentence */
};

#define MINUTE_MS 60000u
#define DAY_MS (24u * 60u * MINUTE_MS)

static const struct setting_row table[SETTING_COUNT] = {
    [SETTING_BACKEND] = {"TUTTI_BACKEND", TYPE_TEXT, "", 0, 0, NULL, false, false,
                         "The backend to use where the program names none; empty: the best usable one."},
    [SETTING_TIMEOUT_MS] = {"TUTTI_TIMEOUT_MS", TYPE_UINT, "600000", 1, DAY_MS, NULL, false, false,
                            "How long a wait for another rank may last, where the program does not say. Dead "
                            "processes are noticed at once, not through it."},
    [SETTING_CREATE_TIMEOUT_MS] = {"TUTTI_CREATE_TIMEOUT_MS", TYPE_UINT, "0", 0, DAY_MS, NULL, false, false,
                                   "How long creating a communicator waits for ranks that have not arrived; 0: the "
                                   "communicator's timeout."},
    [SETTING_LOG] = {"TUTTI_LOG", TYPE_CHOICE, "off", 0, 0, "off|warn|info", false, false,
                     "What the library writes to standard error: nothing, failures, or also what it chose."},
    [SETTING_RANK] = {"TUTTI_RANK", TYPE_UINT, "0", 0, TUTTI_WORLD_MAX - 1, NULL, false, false,
                      "This process's rank, for rendezvous \"env\"; set together with TUTTI_WORLD."},
    [SETTING_WORLD] = {"TUTTI_WORLD", TYPE_UINT, "0", 1, TUTTI_WORLD_MAX, NULL, false, false,
                       "The number of ranks, for rendezvous \"env\"; set together with TUTTI_RANK."},
    [SETTING_RENDEZVOUS] = {"TUTTI_RENDEZVOUS", TYPE_TEXT, "", 0, 0, NULL, false, false,
                            "Where the ranks meet, for rendezvous \"env\": unix:/dir or tcp:host:port."},
    [SETTING_SESSION_TOKEN] = {"TUTTI_SESSION_TOKEN", TYPE_TEXT, "", 0, 0, NULL, false, true,
                               "32 hex digits, the same on all ranks of a job, by which they know each other on a "
                               "tcp: rendezvous; empty: derived from the launcher's job identity."},
    [SETTING_HOST_SIMD] = {"TUTTI_HOST_SIMD", TYPE_CHOICE, "auto", 0, 0, "auto|avx512|avx2|portable", false, false,
                           "The instructions of the host backend; auto: the widest that the processor has. Results "
                           "are the same bits with each."},
    [SETTING_HOST_SPIN_US] = {"TUTTI_HOST_SPIN_US", TYPE_UINT, "0", 0, 1000000, NULL, false, false,
                              "How long a wait of the host backend spins before it sleeps, in microseconds; 0: chosen "
                              "by the numbers of ranks and processors."},
    [SETTING_HOST_ONE_SHOT_BYTES_MAX] = {"TUTTI_HOST_ONE_SHOT_BYTES_MAX", TYPE_SIZE, "0", 0, (uint64_t)1 << 30, NULL,
                                         true, false,
                                         "The largest message that the host backend sends whole to every rank; 0: by "
                                         "its measured table."},
    [SETTING_HOST_CHUNK_BYTES] = {"TUTTI_HOST_CHUNK_BYTES", TYPE_SIZE, "0", 0, (uint64_t)1 << 30, NULL, true, false,
                                  "The host backend's unit of work on large messages; 0: its default."},
    [SETTING_CUDA_LIBRARY] = {"TUTTI_CUDA_LIBRARY", TYPE_TEXT, "libcuda.so.1", 0, 0, NULL, false, false,
                              "The library behind the cuda backend: a name for the dynamic linker, or a path."},
    [SETTING_HIP_LIBRARY] = {"TUTTI_HIP_LIBRARY", TYPE_TEXT, "libamdhip64.so", 0, 0, NULL, false, false,
                             "The library behind the hip backend: a name for the dynamic linker, or a path."},
    [SETTING_GPU_IMAGES] = {"TUTTI_GPU_IMAGES", TYPE_TEXT, "", 0, 0, NULL, false, false,
                            "Files with kernels, separated by colons, to be loaded instead of those that were built "
                            "in; empty: those that were built in."},
    [SETTING_GPU_ARENA] = {"TUTTI_GPU_ARENA", TYPE_CHOICE, "auto", 0, 0, "auto|vmm|ipc", false, false,
                           "How device memory of the GPU backends is shared: as VMM memory through file descriptors, "
                           "as a plain allocation through the driver's IPC handles, or the first that works."},
    [SETTING_GPU_HALF_BYTES] = {"TUTTI_GPU_HALF_BYTES", TYPE_SIZE, "0", 0, (uint64_t)1 << 30, NULL, true, false,
                                "The inbox of one call on the GPU backends; a rank and lane has two. 0: by world and "
                                "message_bytes_max."},
    [SETTING_GPU_DIRECT_BYTES_MIN] =
        {"TUTTI_GPU_DIRECT_BYTES_MIN", TYPE_SIZE, "0", 0, (uint64_t)1 << 40, NULL, true, false,
         "The smallest all_reduce, reduce_scatter and all_gather (bytes of the whole message) in which GPUs use each "
         "other's "
         "buffers where all of them can; 0: on NVIDIA from where on it was found to be quicker, on AMD none."},
    [SETTING_GPU_ONE_SHOT_BYTES_MAX] = {"TUTTI_GPU_ONE_SHOT_BYTES_MAX", TYPE_SIZE, "0", 0, (uint64_t)1 << 30, NULL,
                                        true, false,
                                        "The largest all_reduce that the GPU backends send whole to every rank; 0: by "
                                        "the measured table."},
    [SETTING_GPU_PROGRAMMATIC] = {"TUTTI_GPU_PROGRAMMATIC", TYPE_UINT, "0", 0, 1, NULL, true, false,
                                  "1: collectives are launched programmatically where the device can (NVIDIA, compute "
                                  "capability 9.0 and later)."},
    [SETTING_SLOTS] = {"TUTTI_SLOTS", TYPE_UINT, "8192", 0, 1u << 20, NULL, false, false,
                       "How many captured calls of a communicator can be direct at a time on GPUs; above it they are "
                       "staged. 144 bytes of "
                       "device memory each."},
    [SETTING_GPU_VENDOR] =
        {"TUTTI_GPU_VENDOR", TYPE_CHOICE, "auto", 0, 0, "auto|never|always", true, false,
         "Whether the GPU backends use the vendor's collectives (NCCL, RCCL): where ranks cannot "
         "share memory and the program allows it, never, or always (also with a driver on which they "
         "are known to break captures)."},
    [SETTING_NCCL_LIBRARY] = {"TUTTI_NCCL_LIBRARY", TYPE_TEXT, "libnccl.so.2", 0, 0, NULL, false, false,
                              "NCCL, for TUTTI_GPU_VENDOR on NVIDIA: a name for the dynamic linker, or a path."},
    [SETTING_RCCL_LIBRARY] = {"TUTTI_RCCL_LIBRARY", TYPE_TEXT, "librccl.so.1", 0, 0, NULL, false, false,
                              "RCCL, for TUTTI_GPU_VENDOR on AMD: a name for the dynamic linker, or a path."},
};

struct setting_value {
    bool given, bad;
    uint64_t number;
    char text[VALUE_BYTES];
};

static struct setting_value values[SETTING_COUNT];
static pthread_once_t values_once = PTHREAD_ONCE_INIT;

/* A decimal number with, for sizes, an optional K, M or G (powers of 1024). */
static bool number_parse(const char *text, bool is_size, uint64_t *number)
{
    if (text[0] < '0' || text[0] > '9') {
        return false; /* strtoull would take blanks and signs */
    }
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    unsigned shift = 0;
    if (is_size && *end != 0) {
        const char *suffixes = "KMG";
        const char *found = strchr(suffixes, *end >= 'a' ? *end - ('a' - 'A') : *end);
        if (found == NULL) {
            return false;
        }
        shift = 10u * (unsigned)(found - suffixes + 1);
        end++;
    }
    if (*end != 0 || parsed > UINT64_MAX >> shift) {
        return false;
    }
    *number = (uint64_t)parsed << shift;
    return true;
}

static bool choice_legal(const char *choices, const char *text)
{
    size_t length = strcspn(text, "|");
    if (text[length] != 0) {
        return false; /* the separator is no part of a choice */
    }
    for (const char *choice = choices; length > 0 && choice != NULL; choice = strchr(choice, '|')) {
        choice += *choice == '|';
        if (strncmp(choice, text, length) == 0 && (choice[length] == '|' || choice[length] == 0)) {
            return true;
        }
    }
    return false;
}

static bool value_parse(const struct setting_row *row, const char *text, uint64_t *number)
{
    switch (row->type) {
    case TYPE_UINT:
    case TYPE_SIZE:
        return number_parse(text, row->type == TYPE_SIZE, number) && *number >= row->min && *number <= row->max;
    case TYPE_CHOICE:
        return choice_legal(row->choices, text);
    case TYPE_TEXT:
        return strlen(text) < VALUE_BYTES;
    }
    return false;
}

static void values_read(void)
{
    for (int index = 0; index < SETTING_COUNT; index++) {
        const struct setting_row *row = &table[index];
        struct setting_value *value = &values[index];
        (void)snprintf(value->text, sizeof(value->text), "%s", row->default_value);
        if (row->type == TYPE_UINT || row->type == TYPE_SIZE) {
            (void)number_parse(row->default_value, true, &value->number);
        }
        /* An empty variable is an unset one: launch scripts pass VARIABLE= through. */
        const char *given = getenv(row->name);
        if (given == NULL || given[0] == 0) {
            continue;
        }
        value->given = true;
        uint64_t number = 0;
        value->bad = !value_parse(row, given, &number);
        if (!value->bad) {
            value->number = number;
        }
        (void)snprintf(value->text, sizeof(value->text), "%s", given);
    }
}

static const struct setting_value *value_of(enum setting setting)
{
    (void)pthread_once(&values_once, values_read);
    return &values[setting];
}

tutti_status settings_check_one(enum setting setting)
{
    const struct setting_row *row = &table[setting];
    const struct setting_value *value = value_of(setting);
    if (!value->bad) {
        return TUTTI_OK;
    }
    switch (row->type) {
    case TYPE_UINT:
    case TYPE_SIZE:
        return error_set(TUTTI_ERR_ARGUMENT, "%s=%.64s is not a number from %llu to %llu%s", row->name, value->text,
                         (unsigned long long)row->min, (unsigned long long)row->max,
                         row->type == TYPE_SIZE ? " (K, M and G are understood)" : "");
    case TYPE_CHOICE:
        return error_set(TUTTI_ERR_ARGUMENT, "%s=%.64s is none of %s", row->name, value->text, row->choices);
    case TYPE_TEXT:
        break;
    }
    return error_set(TUTTI_ERR_ARGUMENT, "%s is longer than %d bytes", row->name, VALUE_BYTES - 1);
}

tutti_status settings_check(void)
{
    tutti_status status = TUTTI_OK;
    for (int index = 0; index < SETTING_COUNT && status == TUTTI_OK; index++) {
        status = settings_check_one((enum setting)index);
    }
    return status;
}

uint64_t settings_number(enum setting setting)
{
    return value_of(setting)->number;
}

const char *settings_text(enum setting setting)
{
    return value_of(setting)->text;
}

bool settings_given(enum setting setting)
{
    return value_of(setting)->given;
}

void settings_agreed_text(char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int index = 0; index < SETTING_COUNT; index++) {
        if (!table[index].agreed || used >= text_bytes) {
            continue;
        }
        /* Numbers by value, so that 64K and 65536 agree. */
        int length = 0;
        if (table[index].type == TYPE_UINT || table[index].type == TYPE_SIZE) {
            length = snprintf(text + used, text_bytes - used, "%s=%llu\n", table[index].name,
                              (unsigned long long)settings_number((enum setting)index));
        } else {
            length = snprintf(text + used, text_bytes - used, "%s=%s\n", table[index].name,
                              settings_text((enum setting)index));
        }
        used += length > 0 ? (size_t)length : 0;
    }
}

bool settings_row(size_t index, tutti_setting_t *out)
{
    static const char *const type_names[] = {"uint", "size", "text", "choice"};
    if (index >= SETTING_COUNT) {
        return false;
    }
    const struct setting_row *row = &table[index];
    const struct setting_value *value = value_of((enum setting)index);
    (void)snprintf(out->name, sizeof(out->name), "%s", row->name);
    (void)snprintf(out->type, sizeof(out->type), "%s", type_names[row->type]);
    (void)snprintf(out->value, sizeof(out->value), "%.*s", (int)sizeof(out->value) - 1,
                   row->secret && value->given ? "(set, not shown)" : value->text);
    (void)snprintf(out->default_value, sizeof(out->default_value), "%s", row->default_value);
    out->from_environment = value->given;
    out->agreed = row->agreed;
    if (row->type == TYPE_CHOICE) {
        (void)snprintf(out->description, sizeof(out->description), "%s (%s)", row->description, row->choices);
    } else {
        (void)snprintf(out->description, sizeof(out->description), "%s", row->description);
    }
    return true;
}
