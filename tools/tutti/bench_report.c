/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_report.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_time.h"
#include "machine.h"

static double bandwidth(const struct bench_row *row, const struct bench_result *result)
{
    return result->us_p50 > 0 ? (double)row->payload_bytes / (result->us_p50 * 1e-6) : 0;
}

/* "barrier" has no elements. */
static const char *dtype_text(const struct bench_row *row)
{
    return row->op == TUTTI_BARRIER ? "none" : bench_dtype_name(row->dtype);
}

void bench_report_print_head(const struct bench_report *report)
{
    const struct bench_options *options = report->options;
    char processor[128];
    machine_processor(processor, sizeof(processor));
    printf("# %s, %s; %s, %d cores\n", report->teams[0]->version, report->teams[0]->device, processor, machine_cores());
    for (size_t i = 1; i < report->team_count; i++) {
        bool lost = report->sentences[i][0] != '\0';
        printf("# %s: %s\n", report->teams[i]->name, lost ? report->sentences[i] : report->teams[i]->version);
    }
    if (bench_on_gpu(options)) {
        printf("# %d ranks, processes with a device each, %s; competitors take turns, %u rounds, medians over rounds\n",
               options->ranks, options->graph ? "replayed from graphs" : "called eagerly", options->rounds);
        printf("# us: a run of 10 to 200 calls by the device's events, the slowest rank's, over its calls\n");
        printf("# x: the peer's us p50 over ours, above 1 is slower than ours; wrong: elements, ours and the peers'\n");
        return;
    }
    printf("# %d ranks, ours %s, %s; nothing is pinned; competitors take turns, %u rounds, medians over rounds\n",
           options->ranks, options->threads ? "threads of one process" : "processes",
           options->graph ? "replayed from graphs (peers call eagerly)" : "called eagerly", options->rounds);
    printf("# us: from the slowest rank's completion of one call to its completion of the next, back to back\n");
    printf("# alone: one call behind a barrier, last start to last end; GB/s: bytes over us p50, bus as nccl-tests\n");
    printf("# bound: memcpy time of the bytes that must move, %d ranks at once; x bound: us p50 over it\n",
           options->ranks);
    printf("# x: the peer's us p50 over ours, above 1 is slower than ours; wrong: elements, ours and the peers'\n");
}

void bench_report_print_columns(const struct bench_report *report, tutti_collective op, tutti_dtype dtype)
{
    if (op == TUTTI_BARRIER) {
        printf("\n%s, %d ranks\n", bench_op_name(op), report->options->ranks);
    } else {
        printf("\n%s, %s, %d ranks\n", bench_op_name(op), bench_dtype_name(dtype), report->options->ranks);
    }
    printf("%10s %10s %10s %8s %8s %10s %10s %7s", "bytes", "us p50", "us p99", "GB/s", "bus GB/s", "us alone",
           "bound us", "x bound");
    for (size_t i = 1; i < report->team_count; i++) {
        printf(" | %11s %6s", report->teams[i]->name, "x");
    }
    printf(" | wrong\n");
}

static void print_peer(const struct bench_result *ours, const struct bench_result *peer)
{
    if (peer->measured) {
        printf(" | %11.2f %6.2f", peer->us_p50, ours->us_p50 > 0 ? peer->us_p50 / ours->us_p50 : 0.0);
    } else {
        printf(" | %11s %6s", "failed", "-");
    }
}

void bench_report_print_row(const struct bench_report *report, const struct bench_row *row)
{
    const struct bench_result *ours = &row->results[0];
    double rate = bandwidth(row, ours) / 1e9;
    printf("%10" PRIu64 " %10.2f %10.2f %8.3f %8.3f", row->bytes, ours->us_p50, ours->us_p99, rate,
           rate * bench_time_bus_factor(row->op, report->options->ranks));
    if (ours->us_alone_p50 > 0) {
        printf(" %10.2f", ours->us_alone_p50);
    } else {
        printf(" %10s", "-");
    }
    if (row->bound_us > 0) {
        printf(" %10.2f %7.2f", row->bound_us, ours->us_p50 / row->bound_us);
    } else {
        printf(" %10s %7s", "-", "-");
    }
    uint64_t wrong = ours->wrong;
    for (size_t i = 1; i < report->team_count; i++) {
        print_peer(ours, &row->results[i]);
        wrong += row->results[i].wrong;
    }
    printf(" | %5" PRIu64 "\n", wrong);
    (void)fflush(stdout); /* a row is the progress */
}

/* -- JSON ------------------------------------------------------------------------------------ */

static cJSON *result_json(const struct bench_report *report, const struct bench_row *row, size_t team)
{
    const struct bench_result *result = &row->results[team];
    double rate = bandwidth(row, result);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "op", bench_op_name(row->op));
    cJSON_AddStringToObject(json, "dtype", dtype_text(row));
    cJSON_AddNumberToObject(json, "bytes", (double)row->bytes);
    cJSON_AddNumberToObject(json, "ranks", report->options->ranks);
    cJSON_AddStringToObject(json, "peer", report->teams[team]->name);
    cJSON_AddBoolToObject(json, "graph", result->graph);
    cJSON_AddNumberToObject(json, "us_p50", result->us_p50);
    cJSON_AddNumberToObject(json, "us_p99", result->us_p99);
    cJSON_AddNumberToObject(json, "wrong", (double)result->wrong);
    cJSON_AddNumberToObject(json, "checked", (double)result->checked);
    cJSON_AddNumberToObject(json, "samples", (double)result->samples);
    if (result->us_alone_p50 > 0) {
        cJSON_AddNumberToObject(json, "us_alone_p50", result->us_alone_p50);
    }
    cJSON_AddNumberToObject(json, "payload_bytes", (double)row->payload_bytes);
    cJSON_AddNumberToObject(json, "bytes_per_second", rate);
    cJSON_AddNumberToObject(json, "bus_bytes_per_second",
                            rate * bench_time_bus_factor(row->op, report->options->ranks));
    if (team == 0) {
        cJSON_AddNumberToObject(json, "sleeps_per_call", result->sleeps_per_call);
    }
    if (row->bound_us > 0) {
        cJSON_AddNumberToObject(json, "bound_us", row->bound_us);
        cJSON_AddNumberToObject(json, "bound_ratio", result->us_p50 / row->bound_us);
    } else {
        cJSON_AddNullToObject(json, "bound_us");
        cJSON_AddNullToObject(json, "bound_ratio");
    }
    return json;
}

static cJSON *competitors_json(const struct bench_report *report)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < report->team_count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", report->teams[i]->name);
        cJSON_AddStringToObject(item, "version", report->teams[i]->version);
        cJSON_AddStringToObject(item, "device", report->teams[i]->device);
        if (report->sentences[i][0] != '\0') {
            cJSON_AddStringToObject(item, "error", report->sentences[i]);
        }
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *command_json(const struct bench_report *report)
{
    cJSON *list = cJSON_CreateArray();
    cJSON_AddItemToArray(list, cJSON_CreateString("tutti"));
    for (int i = 0; i < report->argc; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateString(report->argv[i]));
    }
    return list;
}

char *bench_report_json(const struct bench_report *report)
{
    const struct bench_options *options = report->options;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "version", tutti_version());
    cJSON_AddItemToObject(json, "command", command_json(report));
    cJSON_AddItemToObject(json, "machine", machine_json());
    cJSON_AddStringToObject(json, "backend", options->backend);
    cJSON_AddStringToObject(json, "ranks_are", options->threads ? "threads" : "processes");
    cJSON_AddNumberToObject(json, "rounds", options->rounds);
    cJSON_AddItemToObject(json, "competitors", competitors_json(report));
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    for (size_t i = 0; i < report->row_count; i++) {
        for (size_t team = 0; team < report->team_count; team++) {
            if (report->rows[i].results[team].measured) {
                cJSON_AddItemToArray(results, result_json(report, &report->rows[i], team));
            }
        }
    }
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text == NULL) {
        return NULL;
    }
    size_t length = strlen(text);
    char *line = realloc(text, length + 2);
    if (line == NULL) {
        free(text);
        return NULL;
    }
    memcpy(line + length, "\n", 2);
    return line;
}

/* -- CSV ------------------------------------------------------------------------------------- */

char *bench_report_csv(const struct bench_report *report)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    if (stream == NULL) {
        return NULL;
    }
    fprintf(stream, "op,dtype,bytes,ranks,peer,graph,us_p50,us_p99,wrong,checked,samples,us_alone_p50,"
                    "bytes_per_second,bound_us\n");
    for (size_t i = 0; i < report->row_count; i++) {
        const struct bench_row *row = &report->rows[i];
        for (size_t team = 0; team < report->team_count; team++) {
            const struct bench_result *result = &row->results[team];
            if (!result->measured) {
                continue;
            }
            fprintf(stream, "%s,%s,%" PRIu64 ",%d,%s,%d,%.4f,%.4f,%" PRIu64 ",%" PRIu64 ",%zu,", bench_op_name(row->op),
                    dtype_text(row), row->bytes, report->options->ranks, report->teams[team]->name, result->graph,
                    result->us_p50, result->us_p99, result->wrong, result->checked, result->samples);
            if (result->us_alone_p50 > 0) {
                fprintf(stream, "%.4f", result->us_alone_p50);
            }
            fprintf(stream, ",%.0f,", bandwidth(row, result));
            if (row->bound_us > 0) {
                fprintf(stream, "%.4f", row->bound_us);
            }
            fputc('\n', stream);
        }
    }
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
