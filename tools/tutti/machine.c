/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int machine_cores(void)
{
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

void machine_processor(char *name, size_t name_bytes)
{
    (void)snprintf(name, name_bytes, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof(line), file) != NULL) {
        char *colon = strstr(line, ": ");
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            line[strcspn(line, "\n")] = '\0';
            (void)snprintf(name, name_bytes, "%s", colon + 2);
            break;
        }
    }
    (void)fclose(file);
}

static void add_feature(char *names, size_t names_bytes, const char *name, int present)
{
    size_t used = strlen(names);
    if (present) {
        (void)snprintf(names + used, names_bytes - used, "%s%s", used > 0 ? " " : "", name);
    }
}

void machine_features(char *names, size_t names_bytes)
{
    names[0] = '\0';
#if defined(__x86_64__)
    __builtin_cpu_init();
    add_feature(names, names_bytes, "sse4.2", __builtin_cpu_supports("sse4.2"));
    add_feature(names, names_bytes, "avx", __builtin_cpu_supports("avx"));
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    bool leaf = __get_cpuid(1, &a, &b, &c, &d) != 0;
    add_feature(names, names_bytes, "f16c", leaf && (c & bit_F16C) != 0); /* clang 14's builtin does not know it */
    add_feature(names, names_bytes, "fma", __builtin_cpu_supports("fma"));
    add_feature(names, names_bytes, "avx2", __builtin_cpu_supports("avx2"));
    add_feature(names, names_bytes, "avx512f", __builtin_cpu_supports("avx512f"));
    add_feature(names, names_bytes, "avx512bw", __builtin_cpu_supports("avx512bw"));
    add_feature(names, names_bytes, "avx512vl", __builtin_cpu_supports("avx512vl"));
    add_feature(names, names_bytes, "avx512dq", __builtin_cpu_supports("avx512dq"));
#elif defined(__aarch64__)
    add_feature(names, names_bytes, "neon", 1);
#endif
}

static cJSON *features_json(void)
{
    char names[256];
    machine_features(names, sizeof(names));
    cJSON *list = cJSON_CreateArray();
    for (char *rest = names[0] != '\0' ? names : NULL; rest != NULL;) {
        cJSON_AddItemToArray(list, cJSON_CreateString(strsep(&rest, " ")));
    }
    return list;
}

cJSON *machine_json(void)
{
    char processor[128];
    struct utsname system;
    machine_processor(processor, sizeof(processor));
    cJSON *json = cJSON_CreateObject();
    if (json == NULL || uname(&system) != 0) {
        cJSON_Delete(json);
        return NULL;
    }
    cJSON_AddStringToObject(json, "architecture", system.machine);
    cJSON_AddStringToObject(json, "processor", processor);
    cJSON_AddNumberToObject(json, "cores", machine_cores());
    cJSON_AddItemToObject(json, "features", features_json());
    cJSON_AddNumberToObject(json, "memory_bytes", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE));
    cJSON_AddStringToObject(json, "kernel", system.release);
    return json;
}
