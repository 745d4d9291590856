/* SPDX-License-Identifier: Apache-2.0 */
/* serve_record.c - what a step generated, and how long it took, on the board. */
#include <math.h>
#include <string.h>

#include "serve.h"

void serve_note_arrivals(struct serve *serve)
{
    double now = serve_now_s();
    for (int i = 0; i < serve->options.trace->count; i++) {
        if (serve->schedule.requests[i].arrived && serve->arrived_s[i] <= 0.0) {
            serve->arrived_s[i] = now;
        }
    }
}

/* The reference writes its logits down; everybody else says how far its own are from them. NaN counts as far. */
static float compare_logits(const struct serve *serve, size_t output, int pick)
{
    const struct board *board = serve->options.board;
    if (board->logits_kept == 0) {
        return 0.0f;
    }
    const float *logits = serve->target.forward.outputs.logits + (size_t)pick * serve->target.forward.logits_stride;
    float *kept = board_logits(board, output);
    float deviation = 0.0f;
    for (size_t i = 0; i < board->logits_kept; i++) {
        float value = logits[i * board->logits_stride];
        if (serve->options.slot == BOARD_REFERENCE) {
            kept[i] = value;
            continue;
        }
        float distance = fabsf(value - kept[i]);
        deviation = distance <= deviation ? deviation : (isnan(distance) ? INFINITY : distance);
    }
    return deviation;
}

static void record_times(struct serve *serve, int request, double now)
{
    const struct serve_options *options = &serve->options;
    int produced = serve->schedule.requests[request].produced + 1;
    if (produced == 1) {
        serve->first_s[request] = now;
        board_first_ms(options->board, options->slot, options->board_rank)[request] =
            (now - serve->arrived_s[request]) * 1e3;
    }
    board_rest_ms(options->board, options->slot, options->board_rank)[request] = (now - serve->first_s[request]) * 1e3;
}

int32_t serve_record_output(struct serve *serve, int request, int pick, double now)
{
    const struct serve_options *options = &serve->options;
    struct board_token *board = board_tokens(options->board, options->slot, options->board_rank);
    const struct rows_pick *got = &serve->target.forward.outputs.picks[pick];
    size_t output = options->trace->requests[request].first_output + (size_t)serve->schedule.requests[request].produced;
    board[output] = (struct board_token){got->token, got->margin, got->hash, compare_logits(serve, output, pick), 1};
    record_times(serve, request, now);
    atomic_fetch_add(&serve->report->tokens_done, 1);
    return options->forced != NULL ? options->forced[output].token : got->token;
}

void serve_record(struct serve *serve)
{
    double now = serve_now_s();
    for (int pick = 0; pick < serve->step.picks; pick++) {
        int request = serve->step.entries[serve->step.picked[pick]].request;
        serve->tokens[pick] = serve_record_output(serve, request, pick, now);
    }
    schedule_complete(&serve->schedule, &serve->step, serve->tokens);
}
