/* SPDX-License-Identifier: Apache-2.0 */
/* trace_line.h - one line of a trace. */
#ifndef TUTTI_TOOL_TRACE_LINE_H
#define TUTTI_TOOL_TRACE_LINE_H

#include "trace.h"

/* What a line says; numbers it does not mention are -1, text is "" or NULL. */
struct trace_line {
    char *prompt; /* owned by the line */
    int prompt_tokens, output_tokens, concurrency, chunk_tokens, speculate;
    double arrival_ms;
    bool embeddings;
    char workload[64];
};

/* False, and a reason without file and line in `why`, if the line is no request. */
bool trace_line_parse(const char *text, struct trace_line *line, char *why, size_t why_bytes);
void trace_line_free(struct trace_line *line);

#endif
