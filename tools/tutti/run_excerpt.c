/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_excerpt.c - made-up weights speak no language, but 264 tokens are 88 piano keys times 3 note lengths.
 */
#include "run_excerpt.h"

#include <stdio.h>
#include <string.h>

#define PIANO_KEYS 88
#define NOTE_LENGTHS 3
#define EXCERPTS 3
#define EXCERPT_NOTES 12
#define PROMPT_BYTES 34

/* "F#4", and a mark for its length: "," short, "-" long. */
static void print_note(int token)
{
    static const char *const names[] = {"A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#"};
    static const char *const marks[NOTE_LENGTHS] = {",", "", "-"};
    int key = token / NOTE_LENGTHS;
    printf(" %s%d%s", names[key % 12], (key + 9) / 12, marks[token % NOTE_LENGTHS]);
}

/* The prompt's beginning, cut at a space. */
static void print_prompt(const char *text)
{
    size_t bytes = strlen(text);
    if (bytes <= PROMPT_BYTES) {
        printf("    %-*s ", PROMPT_BYTES + 3, text);
        return;
    }
    for (bytes = PROMPT_BYTES; bytes > 0 && text[bytes] != ' '; bytes--) {
    }
    printf("    %.*s...%*s", (int)bytes, text, (int)(PROMPT_BYTES - bytes + 1), "");
}

void excerpt_print(const struct run *run)
{
    if (run->shape.vocab != PIANO_KEYS * NOTE_LENGTHS) {
        return;
    }
    int printed = 0;
    for (int i = 0; i < run->trace.count && printed < EXCERPTS; i++) {
        const struct trace_request *request = &run->trace.requests[i];
        if (request->text == NULL) {
            continue;
        }
        if (printed++ == 0) {
            printf("  What they played (the weights are made up; read 264 tokens as 88 piano keys, short, plain and "
                   "long)\n\n");
        }
        print_prompt(request->text);
        const struct board_token *tokens = board_tokens(&run->board, BOARD_PIECEWISE, 0) + request->first_output;
        for (int note = 0; note < request->output_tokens && note < EXCERPT_NOTES; note++) {
            print_note(tokens[note].token);
        }
        printf("%s\n", request->output_tokens > EXCERPT_NOTES ? " ..." : "");
    }
    printf("%s", printed > 0 ? "\n" : "");
}
