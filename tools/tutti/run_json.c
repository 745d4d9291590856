/* SPDX-License-Identifier: Apache-2.0 */
#include "run_json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_report.h"

static bool refuse(const char *path, char *why, size_t why_bytes)
{
    (void)snprintf(why, why_bytes, "--json %s: %s", path, strerror(errno));
    return false;
}

/* A new file beside the target: renamed over it in the end. */
static bool open_beside(struct run_json *json, const char *path, char *why, size_t why_bytes)
{
    json->target = realpath(path, NULL); /* a link stays a link */
    if (json->target == NULL) {
        json->target = strdup(path);
    }
    if (json->target == NULL || asprintf(&json->temporary, "%s.%d.part", json->target, (int)getpid()) < 0) {
        json->temporary = NULL;
        return refuse(path, why, why_bytes);
    }
    json->fd = open(json->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (json->fd < 0) {
        free(json->temporary);
        json->temporary = NULL;
        return refuse(path, why, why_bytes);
    }
    return true;
}

bool run_json_begin(struct run_json *json, const char *path, char *why, size_t why_bytes)
{
    *json = (struct run_json){.fd = -1};
    if (path == NULL) {
        return true;
    }
    if (path[0] == '\0') {
        errno = ENOENT;
        return refuse(path, why, why_bytes);
    }
    struct stat state;
    bool exists = stat(path, &state) == 0;
    if (exists && S_ISDIR(state.st_mode)) {
        errno = EISDIR;
        return refuse(path, why, why_bytes);
    }
    if (exists && access(path, W_OK) != 0) {
        return refuse(path, why, why_bytes);
    }
    if (exists && !S_ISREG(state.st_mode)) {
        json->target = strdup(path);
        json->fd = open(path, O_WRONLY | O_CLOEXEC);
        return json->fd >= 0 || refuse(path, why, why_bytes);
    }
    if (!open_beside(json, path, why, why_bytes)) {
        run_json_abandon(json);
        return false;
    }
    return true;
}

static cJSON *storm_list(const struct run *run)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; list != NULL && i < run->storm_count; i++) {
        cJSON *entry = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(entry, "name", run->storms[i].name);
        (void)cJSON_AddBoolToObject(entry, "ok", run->storms[i].ok);
        (void)cJSON_AddStringToObject(entry, "sentence", run->storms[i].sentence);
        (void)cJSON_AddItemToArray(list, entry);
    }
    return list;
}

/* The text, for free(). */
static char *render(const struct run *run, bool verified)
{
    struct figures eager = report_figures(run, BOARD_EAGER);
    struct figures graph = report_figures(run, BOARD_GRAPH);
    cJSON *root = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(root, "verified", verified);
    (void)cJSON_AddStringToObject(root, "backend", run->options.backend);
    (void)cJSON_AddNumberToObject(root, "ranks", run->options.ranks);
    (void)cJSON_AddStringToObject(root, "model", run->shape.name);
    (void)cJSON_AddStringToObject(root, "numerics", run->options.numerics == NUMERICS_EXACT ? "exact" : "real");
    (void)cJSON_AddNumberToObject(root, "steps", (double)graph.steps);
    (void)cJSON_AddNumberToObject(root, "graph_replays", (double)graph.graph_replays);
    (void)cJSON_AddNumberToObject(root, "eager_steps", (double)graph.eager_steps);
    (void)cJSON_AddNumberToObject(root, "captures", (double)graph.captures);
    (void)cJSON_AddNumberToObject(root, "capture_ms", graph.capture_ms);
    (void)cJSON_AddNumberToObject(root, "commits", (double)graph.commits);
    (void)cJSON_AddNumberToObject(root, "commit_ms", graph.commit_ms);
    (void)cJSON_AddNumberToObject(root, "direct_calls", (double)(eager.direct_calls + graph.direct_calls));
    (void)cJSON_AddNumberToObject(root, "staged_calls", (double)(eager.staged_calls + graph.staged_calls));
    (void)cJSON_AddNumberToObject(root, "tokens_per_second_eager", eager.tokens_out_per_second);
    (void)cJSON_AddNumberToObject(root, "tokens_per_second_graph", graph.tokens_out_per_second);
    (void)cJSON_AddNumberToObject(root, "ttft_ms_p50", graph.first_ms_p50);
    (void)cJSON_AddNumberToObject(root, "tpot_ms_p50", graph.rest_ms_p50);
    (void)cJSON_AddItemToObject(root, "storm", storm_list(run));
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    return text;
}

static bool write_all(int fd, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t written = write(fd, text, left);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        if (written > 0) {
            text += written;
            left -= (size_t)written;
        }
    }
    return true;
}

bool run_json_finish(struct run_json *json, const struct run *run, bool verified, char *why, size_t why_bytes)
{
    if (json->target == NULL) {
        return true;
    }
    char *text = render(run, verified);
    bool good = text != NULL && write_all(json->fd, text) && write_all(json->fd, "\n");
    free(text);
    good = close(json->fd) == 0 && good;
    json->fd = -1;
    if (good && json->temporary != NULL) {
        good = rename(json->temporary, json->target) == 0;
        if (good) {
            free(json->temporary);
            json->temporary = NULL;
        }
    }
    if (!good) {
        (void)refuse(json->target, why, why_bytes);
    }
    run_json_abandon(json);
    return good;
}

void run_json_abandon(struct run_json *json)
{
    if (json->fd >= 0) {
        (void)close(json->fd);
    }
    if (json->temporary != NULL) {
        (void)unlink(json->temporary);
    }
    free(json->temporary);
    free(json->target);
    *json = (struct run_json){.fd = -1};
}
