/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: each value is read as documented, and a bad one is refused by name, value and what is legal. A setting is read
 * once per process, so that every case is a process. */
#include "base/settings.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"

static void in_child(void (*body)(const char *name, const char *value, const char *expected), const char *name,
                     const char *value, const char *expected)
{
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        CHECK(setenv(name, value, 1) == 0, "setenv");
        body(name, value, expected);
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "%s=%s", name, value);
}

static void check_refused(const char *name, const char *value, const char *expected)
{
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, settings_check());
    const char *sentence = tutti_last_error();
    CHECK(strstr(sentence, name) != NULL && strstr(sentence, expected) != NULL, "%s=%s: \"%s\" lacks \"%s\"", name,
          value, sentence, expected);
}

static size_t row_find(const char *name)
{
    tutti_setting_t row = {.struct_bytes = sizeof(row)};
    size_t index = 0;
    while (settings_row(index, &row)) {
        if (strcmp(row.name, name) == 0) {
            return index;
        }
        index++;
    }
    CHECK(0, "no setting %s", name);
    return 0;
}

static void check_number(const char *name, const char *value, const char *expected)
{
    CHECK_OK(settings_check());
    uint64_t number = settings_number((enum setting)row_find(name));
    CHECK(number == strtoull(expected, NULL, 10), "%s=%s gives %llu", name, value, (unsigned long long)number);
    CHECK(settings_given((enum setting)row_find(name)) == (value[0] != 0), "%s=%s", name, value);
}

static void check_text(const char *name, const char *value, const char *expected)
{
    CHECK_OK(settings_check());
    CHECK(strcmp(settings_text((enum setting)row_find(name)), expected) == 0, "%s=%s gives \"%s\"", name, value,
          settings_text((enum setting)row_find(name)));
}

static void check_hidden(const char *name, const char *value, const char *expected)
{
    (void)expected;
    tutti_setting_t row = {.struct_bytes = sizeof(row)};
    CHECK(settings_row(row_find(name), &row), "no row");
    CHECK(strstr(row.value, value) == NULL && row.from_environment == 1, "%s shows %s", name, row.value);
    CHECK(strcmp(settings_text((enum setting)row_find(name)), value) == 0, "the library itself must see it");
}

static void check_agreed(const char *name, const char *value, const char *expected)
{
    (void)value;
    char text[512];
    settings_agreed_text(text, sizeof(text));
    CHECK(strstr(text, expected) != NULL, "\"%s\" lacks %s", text, expected);
    char small[20];
    settings_agreed_text(small, sizeof(small));
    CHECK(strlen(small) == sizeof(small) - 1, "a small buffer of %s", name);
}

/* Every row must be fit to be printed, and every default must be legal. */
static void test_rows(void)
{
    CHECK_OK(settings_check());
    for (size_t index = 0; index < SETTING_COUNT; index++) {
        tutti_setting_t row = {.struct_bytes = sizeof(row)};
        CHECK(settings_row(index, &row), "row %zu", index);
        CHECK(strncmp(row.name, "TUTTI_", 6) == 0 && row.description[strlen(row.description) - 1] != ' ', "%s",
              row.name);
        CHECK(strlen(row.description) + 1 < sizeof(row.description), "%s: the description is cut", row.name);
        CHECK(strcmp(row.value, row.default_value) == 0 && row.from_environment == 0, "%s=%s", row.name, row.value);
    }
    tutti_setting_t row = {.struct_bytes = sizeof(row)};
    CHECK(!settings_row(SETTING_COUNT, &row), "a row past the last one");
}

int main(void)
{
    const char *const bad_numbers[] = {"0",       "-1", " 5", "5 ", "0x10", "1e3", "abc", "99999999999999999999999",
                                       "86400001"};
    for (size_t index = 0; index < sizeof(bad_numbers) / sizeof(bad_numbers[0]); index++) {
        in_child(check_refused, "TUTTI_TIMEOUT_MS", bad_numbers[index], "from 1 to 86400000");
    }
    in_child(check_refused, "TUTTI_TIMEOUT_MS", "5K", "5K");
    in_child(check_refused, "TUTTI_HOST_CHUNK_BYTES", "2G", "0 to 1073741824");
    in_child(check_refused, "TUTTI_HOST_CHUNK_BYTES", "17179869184G", "K, M and G");
    in_child(check_refused, "TUTTI_HOST_CHUNK_BYTES", "64KB", "64KB");
    in_child(check_refused, "TUTTI_LOG", "warning", "off|warn|info");
    in_child(check_refused, "TUTTI_LOG", "warn|info", "off|warn|info");
    in_child(check_refused, "TUTTI_HOST_SIMD", "avx", "auto|avx512|avx2|portable");
    char long_text[700];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = 0;
    in_child(check_refused, "TUTTI_RENDEZVOUS", long_text, "longer than");

    in_child(check_number, "TUTTI_TIMEOUT_MS", "1", "1");
    in_child(check_number, "TUTTI_TIMEOUT_MS", "", "600000");
    in_child(check_number, "TUTTI_HOST_CHUNK_BYTES", "65536", "65536");
    in_child(check_number, "TUTTI_HOST_CHUNK_BYTES", "64K", "65536");
    in_child(check_number, "TUTTI_HOST_CHUNK_BYTES", "3m", "3145728");
    in_child(check_number, "TUTTI_HOST_CHUNK_BYTES", "1G", "1073741824");
    in_child(check_text, "TUTTI_LOG", "info", "info");
    in_child(check_text, "TUTTI_LOG", "", "off");
    in_child(check_text, "TUTTI_HOST_SIMD", "portable", "portable");
    in_child(check_hidden, "TUTTI_SESSION_TOKEN", "0123456789abcdef0123456789abcdef", "");
    in_child(check_agreed, "TUTTI_HOST_CHUNK_BYTES", "64K", "TUTTI_HOST_CHUNK_BYTES=65536\n");
    test_rows();
    return 0;
}
