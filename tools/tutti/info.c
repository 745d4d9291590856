/* SPDX-License-Identifier: Apache-2.0 */
/* info.c - `tutti info`: what the library is, what it can use on this machine, and every setting. */
#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <getopt.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "machine.h"
#include "output.h"
#include "tutti/tutti.h"

static const char help_text[] =
    "usage: tutti info [--settings [--markdown]] [--json]\n"
    "Says which version this is, which backends work here and why others do not, and what the processor can do.\n\n"
    "  --settings   every setting: its variable, value in force, default and meaning\n"
    "  --markdown   with --settings: the table as docs/settings.md holds it\n"
    "  --json       everything as JSON\n"
    "  --help       this text\n\n"
    "Exit code 1 if no backend can be used.\n";

/* What creating a communicator of one rank says about the backend that would be taken. */
struct probe {
    tutti_status status;
    char sentence[512]; /* why not, if status is not 0 */
    tutti_comm_info_t info;
};

static void probe_backend(struct probe *probe)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .world = 1};
    tutti_comm *comm = NULL;
    memset(probe, 0, sizeof(*probe));
    probe->info.struct_bytes = sizeof(probe->info);
    probe->status = tutti_comm_create(&options, &comm);
    if (probe->status == TUTTI_OK) {
        probe->status = tutti_comm_info(comm, &probe->info);
    }
    if (probe->status != TUTTI_OK) {
        (void)snprintf(probe->sentence, sizeof(probe->sentence), "%s", tutti_last_error());
    }
    tutti_comm_destroy(comm);
}

static bool next_backend(size_t index, tutti_backend_t *backend)
{
    memset(backend, 0, sizeof(*backend));
    backend->struct_bytes = sizeof(*backend);
    return tutti_backend(index, backend) == TUTTI_OK;
}

static bool next_setting(size_t index, tutti_setting_t *setting)
{
    memset(setting, 0, sizeof(*setting));
    setting->struct_bytes = sizeof(*setting);
    return tutti_setting(index, setting) == TUTTI_OK;
}

/* Calls each(path) for libtutti and what the tool itself was linked with beyond the C library. */
static int list_library(struct dl_phdr_info *library, size_t bytes, void *list)
{
    static const char *const known[] = {"/libtutti.", "/libcjson.", "/libopenblas", "/libopenblasp"};
    (void)bytes;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strstr(library->dlpi_name, known[i]) != NULL) {
            cJSON_AddItemToArray(list, cJSON_CreateString(library->dlpi_name));
            return 0;
        }
    }
    return 0;
}

/* The paths the dynamic linker took the tool's libraries from. The caller owns the list. */
static cJSON *libraries_json(void)
{
    cJSON *list = cJSON_CreateArray();
    (void)dl_iterate_phdr(list_library, list);
    return list;
}

static void print_settings(void)
{
    tutti_setting_t setting;
    printf("%-32s %-7s %-16s %-16s %s\n", "setting", "type", "in force", "default", "meaning");
    for (size_t i = 0; next_setting(i, &setting); i++) {
        printf("%-32s %-7s %-16s %-16s %s%s%s\n", setting.name, setting.type, setting.value[0] ? setting.value : "-",
               setting.default_value[0] ? setting.default_value : "-", setting.description,
               setting.agreed ? " [same on all ranks]" : "", setting.from_environment ? " [set here]" : "");
    }
}

/* Text of a table cell: a bar would end the cell. */
static void print_cell(const char *text)
{
    (void)putchar(' ');
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            (void)putchar('\\');
        }
        (void)putchar(*text);
    }
    (void)fputs(" |", stdout);
}

static void print_settings_markdown(void)
{
    tutti_setting_t setting;
    printf("# Settings\n\n"
           "<!-- Generated from src/base/settings.c by `make docs`; do not edit. -->\n\n"
           "Every knob of the library is an environment variable, read once at its first use. A value that is not\n"
           "legal is an error that names it, never silently the default. Settings marked \"agreed\" must be the same\n"
           "on all ranks of a communicator: creation compares them and names the first difference.\n"
           "`tutti info --settings` prints the values in force.\n\n"
           "| variable | type | default | agreed | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; next_setting(i, &setting); i++) {
        printf("| `%s` | %s |", setting.name, setting.type);
        print_cell(setting.default_value[0] ? setting.default_value : "-");
        print_cell(setting.agreed ? "yes" : "no");
        print_cell(setting.description);
        (void)putchar('\n');
    }
}

static void print_text(const struct probe *probe, bool settings)
{
    char text[256];
    tutti_backend_t backend;
    printf("tutti %s", tutti_version());
    Dl_info where;
    if (dladdr(__extension__(const void *) tutti_version, &where) != 0) {
        printf(", library %s", where.dli_fname);
    }
    printf(", header %d.%d.%d\n", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
    machine_processor(text, sizeof(text));
    printf("processor  %s, %d cores\n", text, machine_cores());
    machine_features(text, sizeof(text));
    printf("features   %s\n", text);
    for (size_t i = 0; next_backend(i, &backend); i++) {
        printf("backend    %-8s %-8s %s\n", backend.name, backend.usable ? "usable" : "unusable", backend.description);
    }
    if (probe->status == TUTTI_OK) {
        printf("taken      %s: %s\n", probe->info.backend, probe->info.device_name);
        printf("           %s\n", probe->info.backend_reason);
        printf("           %s; timeout %u ms\n",
               probe->info.deterministic ? "same bits on every rank, whatever the protocol"
                                         : "results may differ in bits",
               probe->info.timeout_ms);
    }
    cJSON *libraries = libraries_json();
    for (const cJSON *path = libraries != NULL ? libraries->child : NULL; path != NULL; path = path->next) {
        printf("loaded     %s\n", path->valuestring);
    }
    cJSON_Delete(libraries);
    if (settings) {
        (void)putchar('\n');
        print_settings();
    }
}

static cJSON *backends_json(void)
{
    tutti_backend_t backend;
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; next_backend(i, &backend); i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", backend.name);
        cJSON_AddBoolToObject(item, "usable", backend.usable);
        cJSON_AddNumberToObject(item, "device_count", backend.device_count);
        cJSON_AddStringToObject(item, backend.usable ? "description" : "reason", backend.description);
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *settings_json(void)
{
    tutti_setting_t setting;
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; next_setting(i, &setting); i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", setting.name);
        cJSON_AddStringToObject(item, "type", setting.type);
        cJSON_AddStringToObject(item, "value", setting.value);
        cJSON_AddStringToObject(item, "default", setting.default_value);
        cJSON_AddBoolToObject(item, "from_environment", setting.from_environment);
        cJSON_AddBoolToObject(item, "agreed", setting.agreed);
        cJSON_AddStringToObject(item, "description", setting.description);
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *taken_json(const struct probe *probe)
{
    if (probe->status != TUTTI_OK) {
        return cJSON_CreateNull();
    }
    cJSON *taken = cJSON_CreateObject();
    cJSON_AddStringToObject(taken, "backend", probe->info.backend);
    cJSON_AddStringToObject(taken, "device", probe->info.device_name);
    cJSON_AddStringToObject(taken, "reason", probe->info.backend_reason);
    cJSON_AddBoolToObject(taken, "deterministic", probe->info.deterministic);
    cJSON_AddNumberToObject(taken, "timeout_ms", probe->info.timeout_ms);
    return taken;
}

/* 0, or -1 without memory. */
static int print_json(const struct probe *probe)
{
    char header[32];
    (void)snprintf(header, sizeof(header), "%d.%d.%d", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "version", tutti_version());
    cJSON_AddStringToObject(json, "header_version", header);
    cJSON_AddItemToObject(json, "machine", machine_json());
    cJSON_AddItemToObject(json, "backends", backends_json());
    cJSON_AddItemToObject(json, "taken", taken_json(probe));
    cJSON_AddItemToObject(json, "libraries", libraries_json());
    cJSON_AddItemToObject(json, "settings", settings_json());
    if (probe->status != TUTTI_OK) {
        cJSON_AddStringToObject(json, "error", probe->sentence);
    }
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text == NULL) {
        return -1;
    }
    (void)puts(text);
    free(text);
    return 0;
}

struct info_options {
    bool settings, markdown, json;
};

/* 0; 1 after --help; -1 after a line on stderr. */
static int parse(struct info_options *options, int argc, char **argv)
{
    static const struct option long_options[] = {
        {"settings", no_argument, NULL, 's'},
        {"markdown", no_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (int key; (key = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        switch (key) {
        case 's':
            options->settings = true;
            break;
        case 'm':
            options->markdown = true;
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            (void)fputs(help_text, stdout);
            return 1;
        default:
            fprintf(stderr, "tutti info: unknown option '%s' (tutti info --help)\n", argv[optind - 1]);
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "tutti info: unexpected argument '%s' (tutti info --help)\n", argv[optind]);
        return -1;
    }
    if (options->markdown && (!options->settings || options->json)) {
        fprintf(stderr, "tutti info: --markdown goes with --settings and without --json\n");
        return -1;
    }
    return 0;
}

int info_main(int argc, char **argv)
{
    struct info_options options = {0};
    int parsed = parse(&options, argc, argv);
    if (parsed < 0) {
        return EXIT_CODE_USAGE;
    }
    if (parsed > 0) {
        return output_finish("tutti info") == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
    }
    if (options.markdown) { /* documentation: the same wherever it is made */
        print_settings_markdown();
        return output_finish("tutti info") == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
    }
    struct probe probe;
    probe_backend(&probe);
    if (options.json) {
        if (print_json(&probe) != 0) {
            fprintf(stderr, "tutti info: no memory for the JSON text\n");
            return EXIT_CODE_FAILED;
        }
    } else {
        print_text(&probe, options.settings);
    }
    if (output_finish("tutti info") != 0) {
        return EXIT_CODE_FAILED;
    }
    if (probe.status != TUTTI_OK) {
        fprintf(stderr, "tutti info: no usable backend: %s\n", probe.sentence);
        return EXIT_CODE_FAILED;
    }
    return EXIT_CODE_OK;
}
