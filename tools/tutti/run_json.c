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

static void add_number(cJSON *object, const char *name, double value)
{
    (void)cJSON_AddNumberToObject(object, name, value);
}

/* Each way's figures. */
static cJSON *way_list(const struct run *run)
{
    struct way ways[WAYS_MAX];
    int count = report_ways(run, ways);
    cJSON *list = cJSON_CreateArray();
    for (int way = 0; list != NULL && way < count; way++) {
        const struct figures figures = report_figures(run, ways[way].slot);
        cJSON *entry = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(entry, "name", ways[way].name);
        add_number(entry, "tokens_per_second_in", figures.tokens_in_per_second);
        add_number(entry, "tokens_per_second", figures.tokens_out_per_second);
        add_number(entry, "ttft_ms_p50", figures.first_ms_p50);
        add_number(entry, "tpot_ms_p50", figures.rest_ms_p50);
        add_number(entry, "seconds", figures.seconds);
        add_number(entry, "start_ms", figures.start_ms);
        add_number(entry, "steps", (double)figures.steps);
        add_number(entry, "graph_replays", (double)figures.runners.graph_replays);
        add_number(entry, "eager_steps", (double)figures.runners.eager_steps);
        add_number(entry, "oversize_steps", (double)figures.runners.oversize_steps);
        add_number(entry, "graph_launches", (double)figures.runners.graph_launches);
        add_number(entry, "padding_rows", (double)figures.runners.padding_rows);
        add_number(entry, "captures", (double)figures.runners.captures);
        add_number(entry, "failed_captures", (double)figures.runners.capture_failures);
        add_number(entry, "capture_ms", figures.runners.capture_ms);
        add_number(entry, "warm_up_ms", figures.runners.warm_up_ms);
        add_number(entry, "commits", (double)figures.runners.commits);
        add_number(entry, "commit_ms", figures.runners.commit_ms);
        (void)cJSON_AddItemToArray(list, entry);
    }
    return list;
}

/* Of the last way's runners, as rank 0 has them. */
static cJSON *bucket_list(const struct run *run)
{
    static const char *const states[] = {"empty", "captured", "eager"};
    struct way ways[WAYS_MAX];
    const struct board_pass *pass = board_pass(&run->board, ways[report_ways(run, ways) - 1].slot, 0);
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; list != NULL && i < pass->bucket_count; i++) {
        const struct board_bucket *bucket = &pass->buckets[i];
        cJSON *entry = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(entry, "runner", bucket->runner);
        add_number(entry, "rows", (double)bucket->rows);
        (void)cJSON_AddStringToObject(entry, "state", states[bucket->state]);
        add_number(entry, "captures", (double)bucket->captures);
        add_number(entry, "failed_captures", (double)bucket->failures);
        add_number(entry, "replays", (double)bucket->replays);
        add_number(entry, "eager_runs", (double)bucket->eager);
        add_number(entry, "capture_ms", bucket->capture_ms);
        (void)cJSON_AddStringToObject(entry, "reason", bucket->reason);
        (void)cJSON_AddItemToArray(list, entry);
    }
    return list;
}

/* The text, for free(). What stands on the first level about one way is about whole graphs, unless it says otherwise. */
static char *render(const struct run *run, bool verified)
{
    const struct figures eager = report_figures(run, BOARD_EAGER);
    const struct figures graph = report_figures(run, BOARD_GRAPH);
    const struct figures piecewise = report_figures(run, BOARD_PIECEWISE);
    cJSON *root = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(root, "verified", verified);
    (void)cJSON_AddStringToObject(root, "backend", run->options.backend);
    add_number(root, "ranks", run->options.ranks);
    (void)cJSON_AddStringToObject(root, "model", run->shape.name);
    (void)cJSON_AddStringToObject(root, "numerics", run->options.numerics == NUMERICS_EXACT ? "exact" : "real");
    add_number(root, "steps", (double)graph.steps);
    add_number(root, "graph_replays", (double)graph.runners.graph_replays);
    add_number(root, "eager_steps", (double)graph.runners.eager_steps);
    add_number(root, "captures", (double)graph.runners.captures);
    add_number(root, "capture_ms", graph.runners.capture_ms);
    add_number(root, "commits", (double)graph.runners.commits);
    add_number(root, "commit_ms", graph.runners.commit_ms);
    add_number(root, "direct_calls", (double)(eager.direct_calls + graph.direct_calls + piecewise.direct_calls));
    add_number(root, "staged_calls", (double)(eager.staged_calls + graph.staged_calls + piecewise.staged_calls));
    add_number(root, "tokens_per_second_eager", eager.tokens_out_per_second);
    add_number(root, "tokens_per_second_graph", graph.tokens_out_per_second);
    add_number(root, "tokens_per_second_piecewise", piecewise.tokens_out_per_second);
    add_number(root, "ttft_ms_p50", graph.first_ms_p50);
    add_number(root, "tpot_ms_p50", graph.rest_ms_p50);
    if (run->speculates) {
        const struct figures speculative = report_figures(run, BOARD_SPECULATIVE);
        add_number(root, "tokens_per_second_speculative", speculative.tokens_out_per_second);
        add_number(root, "draft_layers", run->draft.layers);
        add_number(root, "tokens_proposed", (double)speculative.proposed);
        add_number(root, "tokens_accepted", (double)speculative.accepted);
    }
    (void)cJSON_AddItemToObject(root, "ways", way_list(run));
    (void)cJSON_AddItemToObject(root, "buckets", bucket_list(run));
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
