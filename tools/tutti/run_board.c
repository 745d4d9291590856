/* SPDX-License-Identifier: Apache-2.0 */
#include "run_board.h"

#include <string.h>
#include <sys/mman.h>

#define LOGITS_BYTES_MAX ((size_t)1 << 30)

static size_t round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* A (slot, rank) section: pass, tokens, first_ms, rest_ms. */
static size_t section_bytes(const struct board *board)
{
    return round_up(sizeof(struct board_pass)) + round_up(board->outputs * sizeof(struct board_token)) +
           2 * round_up((size_t)board->requests * sizeof(double));
}

static char *section(const struct board *board, enum board_slot slot, int rank)
{
    size_t index = (size_t)slot * (size_t)board->ranks + (size_t)rank;
    return (char *)board->mapping + index * section_bytes(board);
}

bool board_create(struct board *board, int ranks, int requests, size_t outputs, size_t logits, size_t routes)
{
    struct board made = {
        .ranks = ranks, .requests = requests, .outputs = outputs, .logits_stride = 1, .routes = routes};
    if (logits > 0) {
        size_t wanted = outputs * logits * sizeof(float);
        made.logits_stride = (wanted + LOGITS_BYTES_MAX - 1) / LOGITS_BYTES_MAX;
        made.logits_kept = (logits + made.logits_stride - 1) / made.logits_stride;
    }
    made.mapping_bytes = BOARD_SLOTS * (size_t)ranks * section_bytes(&made) +
                         outputs * made.logits_kept * sizeof(float) + routes * sizeof(int16_t);
    made.mapping =
        mmap(NULL, made.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made.mapping == MAP_FAILED) {
        return false;
    }
    *board = made;
    return true;
}

void board_destroy(struct board *board)
{
    if (board->mapping != NULL) {
        (void)munmap(board->mapping, board->mapping_bytes);
    }
    board->mapping = NULL;
}

struct board_pass *board_pass(const struct board *board, enum board_slot slot, int rank)
{
    return (struct board_pass *)(void *)section(board, slot, rank);
}

struct board_token *board_tokens(const struct board *board, enum board_slot slot, int rank)
{
    return (struct board_token *)(void *)(section(board, slot, rank) + round_up(sizeof(struct board_pass)));
}

double *board_first_ms(const struct board *board, enum board_slot slot, int rank)
{
    char *tokens = (char *)board_tokens(board, slot, rank);
    return (double *)(void *)(tokens + round_up(board->outputs * sizeof(struct board_token)));
}

double *board_rest_ms(const struct board *board, enum board_slot slot, int rank)
{
    char *first = (char *)board_first_ms(board, slot, rank);
    return (double *)(void *)(first + round_up((size_t)board->requests * sizeof(double)));
}

float *board_logits(const struct board *board, size_t output)
{
    char *base = (char *)board->mapping + BOARD_SLOTS * (size_t)board->ranks * section_bytes(board);
    return (float *)(void *)base + output * board->logits_kept;
}

int16_t *board_routes(const struct board *board)
{
    return board->routes > 0 ? (int16_t *)(void *)board_logits(board, board->outputs) : NULL;
}

void board_clear(const struct board *board, enum board_slot slot)
{
    for (int rank = 0; rank < board->ranks; rank++) {
        memset(section(board, slot, rank), 0, section_bytes(board));
    }
}
