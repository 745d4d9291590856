/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h - a request trace: JSON lines, one request each.
 *
 *   {"prompt": "text", "output_tokens": 32, "arrival_ms": 120}
 *   {"prompt_tokens": 1025, "output_tokens": 32}
 *
 * prompt          text; its bytes are the tokens
 * prompt_tokens   or a length; the tokens are then made up, always the same ones
 * output_tokens   how many tokens to generate
 * arrival_ms      on the engine's virtual clock; 0
 * input           "tokens", or "embeddings": the prompt reaches the model as embedding rows
 * workload        name; requests of one name are served together, names one after another in file order
 * concurrency     of the workload: how many requests run at once, 1..512; 16
 * chunk_tokens    of the workload: how many prompt tokens one prefill step takes, 1..16384; 2048
 * speculate       of the workload: how many tokens a draft model proposes for each sequence in a step, 0..16; 0
 */
#ifndef TUTTI_TOOL_TRACE_H
#define TUTTI_TOOL_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_CONCURRENCY_MAX 512
#define TRACE_CHUNK_MAX 16384
#define TRACE_PROMPT_MAX 131072
#define TRACE_OUTPUT_MAX 65536
#define TRACE_SPECULATE_MAX 16

struct trace_request {
    int32_t *prompt; /* [prompt_tokens], owned by the trace */
    char *text;      /* the prompt as text, or NULL; owned by the trace */
    int prompt_tokens, output_tokens;
    double arrival_ms;
    int workload; /* index */
    bool embeddings;
    size_t first_output; /* where this request's tokens begin among all outputs of the trace, */
    size_t first_token;  /* and where its positions begin among all prompts and outputs */
};

struct trace_workload {
    char name[64];
    int concurrency, chunk_tokens, speculate;
};

struct trace {
    char *name;                     /* the file, or "built-in" */
    struct trace_request *requests; /* sorted by workload, then arrival, then line */
    int count;
    struct trace_workload *workloads;
    int workload_count;
    size_t prompt_total, output_total;
    int length_max;      /* longest prompt with its output */
    int prompt_max;      /* longest prompt */
    int concurrency_max; /* over the workloads */
    int chunk_max;
    int speculate_max;
};

/* Reads a trace. False, and one sentence in `why` (naming file and line), if it cannot be read, is malformed or is
 * empty; *trace is then untouched. The caller frees the trace. */
bool trace_read(const char *path, struct trace *trace, char *why, size_t why_bytes);

/* A small trace for whoever names none. False if memory ran out. */
bool trace_builtin(struct trace *trace, char *why, size_t why_bytes);

/* The first `count` requests as one workload, outputs cut to `output_max`; places among the outputs stay those of
 * `whole`, whose prompts it borrows: free it with trace_part_free. False if memory ran out. */
bool trace_part(const struct trace *whole, int count, int output_max, struct trace *part);
void trace_part_free(struct trace *part);

void trace_free(struct trace *trace);

#endif
