/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on communicators with arguments of any kind: one sentence, nothing touched, nothing lost; and structs of
 * older and newer programs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "tutti/tutti.h"

static tutti_comm *const untouched = (tutti_comm *)(uintptr_t)0x1234;

static void check_refused(const tutti_comm_options *options, tutti_status expected, const char *part)
{
    tutti_comm *comm = untouched;
    CHECK_STATUS(expected, tutti_comm_create(options, &comm));
    CHECK(comm == untouched, "the output was touched");
    CHECK(strstr(tutti_last_error(), part) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), part);
}

static tutti_comm_options good(void)
{
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.world = 1;
    return options;
}

static void test_create(void)
{
    tutti_comm_options options = good();
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create(&options, NULL));
    check_refused(NULL, TUTTI_ERR_ARGUMENT, "NULL");
    options.struct_bytes = 0;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "sizeof");
    options.struct_bytes = 8;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "sizeof");
    options.struct_bytes = (size_t)1 << 40;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "sizeof");
    const int worlds[] = {0, -1, 65, 1 << 30};
    for (size_t index = 0; index < 4; index++) {
        options = good();
        options.world = worlds[index];
        check_refused(&options, TUTTI_ERR_ARGUMENT, "1 to 64");
    }
    const int ranks[] = {1, -1, 64};
    for (size_t index = 0; index < 3; index++) {
        options = good();
        options.rank = ranks[index];
        check_refused(&options, TUTTI_ERR_ARGUMENT, "rank");
    }
    options = good();
    options.world = 2;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "no way to meet");
    const char *const places[] = {"",         "unix",       "unix:",      "unix:/nowhere/at/all", "tcp:",
                                  "tcp:host", "tcp:host:",  "tcp:host:0", "tcp:host:65536",       "tcp::80",
                                  "http://x", "tcp:[::1:80"};
    for (size_t index = 0; index < sizeof(places) / sizeof(places[0]); index++) {
        options = good();
        options.world = 2;
        options.rendezvous = places[index];
        check_refused(&options, TUTTI_ERR_ARGUMENT, "rendezvous");
    }
    options = good();
    options.rendezvous = "tcp:localhost:4321";
    check_refused(&options, TUTTI_ERR_ARGUMENT, "TUTTI_SESSION_TOKEN");
    options = good();
    options.lanes = TUTTI_LANES_MAX + 1;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "lanes");
    options.lanes = -1;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "lanes");
    options = good();
    options.flags = 1u << 31;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "flags");
    options.flags = TUTTI_COMM_ONLY_COLLECTIVE_STREAM | TUTTI_COMM_SHARE_DEVICE;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "TUTTI_COMM_SHARE_DEVICE asks for several");
    options.flags = TUTTI_COMM_ONLY_COLLECTIVE_STREAM;
    options.lanes = 2;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "options->lanes asks for several");
    options.lanes = 0;
    options = good();
    options.device = 11;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "device 11");
    options.device = -1;
    check_refused(&options, TUTTI_ERR_ARGUMENT, "device -1");
    options = good();
    options.backend = "cuda ";
    check_refused(&options, TUTTI_ERR_UNSUPPORTED, "cuda ");
}

static void test_create_all(void)
{
    tutti_comm_options options = good();
    tutti_comm *comms[3] = {untouched, untouched, untouched};
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create_all(&options, NULL, 3, NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create_all(NULL, NULL, 3, comms));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create_all(&options, NULL, 0, comms));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create_all(&options, NULL, 65, comms));
    const int devices[3] = {0, 0, 13};
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create_all(&options, devices, 3, comms));
    CHECK(strstr(tutti_last_error(), "rank 2: device 13") != NULL, "%s", tutti_last_error());
    CHECK(comms[0] == untouched && comms[1] == untouched && comms[2] == untouched, "an output was touched");
}

/* A program built against another header. */
static void test_other_headers(void)
{
    struct {
        tutti_comm_options options;
        unsigned char later[32];
    } newer;
    memset(&newer, 0, sizeof(newer));
    newer.options.struct_bytes = sizeof(newer);
    newer.options.world = 1;
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&newer.options, &comm));
    struct {
        tutti_comm_info_t info;
        unsigned char later[32];
    } info;
    memset(&info, 0xff, sizeof(info));
    info.info.struct_bytes = sizeof(info);
    CHECK_OK(tutti_comm_info(comm, &info.info));
    CHECK(info.info.struct_bytes == sizeof(info) && info.info.world == 1 && info.later[0] == 0 && info.later[31] == 0,
          "a newer program's struct");
    tutti_comm_destroy(comm);
    newer.later[31] = 1;
    check_refused(&newer.options, TUTTI_ERR_UNSUPPORTED, "newer header");
}

static void test_asking(void)
{
    tutti_comm_options options = good();
    options.lanes = 3;
    options.timeout_ms = 1234;
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK(info.lanes == 3 && info.timeout_ms == 1234 && info.processes == 1 && info.deterministic == 1 &&
              info.device == 0 && info.device_name[0] != 0,
          "lanes %d, timeout %" PRIu32, info.lanes, info.timeout_ms);
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(comm, &stats));
    CHECK(stats.calls[TUTTI_BARRIER] == 0, "%" PRIu64 " barriers", stats.calls[TUTTI_BARRIER]);
    CHECK_OK(tutti_barrier(comm, NULL));
    CHECK_OK(tutti_comm_stats(comm, &stats));
    CHECK(stats.calls[TUTTI_BARRIER] == 1, "%" PRIu64 " barriers", stats.calls[TUTTI_BARRIER]);
    stats.struct_bytes = 4;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_stats(comm, &stats));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_stats(comm, NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_stats(NULL, &stats));
    info.struct_bytes = 0;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_info(comm, &info));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_info(comm, NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_info(NULL, &info));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_status(NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_abort(NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_extend_deadline(NULL, 1));
    CHECK_OK(tutti_comm_extend_deadline(comm, UINT32_MAX));
    CHECK_OK(tutti_comm_extend_deadline(comm, UINT32_MAX));
    CHECK_OK(tutti_comm_status(comm));
    tutti_comm_destroy(comm);
    tutti_comm_destroy(NULL);
}

static void test_introspection(void)
{
    CHECK(strcmp(tutti_version(), "0.1.0") == 0, "%s", tutti_version());
    tutti_backend_t backend = {.struct_bytes = sizeof(backend)};
    /* Backends of devices come first, usable or with a reason; the host is always there. */
    size_t index = 0;
    while (tutti_backend(index, &backend) == TUTTI_OK && strcmp(backend.name, "host") != 0) {
        CHECK(backend.description[0] != 0 && backend.usable == (backend.device_count > 0), "%s", backend.name);
        index++;
    }
    CHECK(strcmp(backend.name, "host") == 0 && backend.usable == 1 && backend.device_count == 1 &&
              backend.description[0] != 0,
          "%s: %s", backend.name, backend.description);
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_backend(1000, &backend));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_backend(0, NULL));
    size_t count = 0;
    tutti_setting_t setting = {.struct_bytes = sizeof(setting)};
    while (tutti_setting(count, &setting) == TUTTI_OK) {
        CHECK(strncmp(setting.name, "TUTTI_", 6) == 0 && setting.description[0] != 0 && setting.type[0] != 0, "%s",
              setting.name);
        count++;
    }
    CHECK(count > 5, "%zu settings", count);
    CHECK(strstr(tutti_last_error(), "there is no setting") != NULL, "%s", tutti_last_error());
}

int main(void)
{
    CHECK(unsetenv("TUTTI_SESSION_TOKEN") == 0, "unsetenv");
    test_create();
    test_create_all();
    test_other_headers();
    test_asking();
    test_introspection();
    return 0;
}
