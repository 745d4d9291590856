/* SPDX-License-Identifier: Apache-2.0 */
#include "model_attention.h"

#include "model_numerics.h"

/* Sums and maxima over positions run in this many interleaved strands that are joined in order at the end: a
 * fixed order that SIMD of any width up to 16 floats can follow. */
#define STRANDS 16

#define INLINE static inline __attribute__((always_inline))

/* Sixteen floats side by side, of any alignment; the compiler cuts them to the registers there are. */
typedef float wide __attribute__((vector_size(64), aligned(4), may_alias));

/* Scores of 64 positions from `first` on: four accumulators stay in registers while head_dim passes, so that each
 * key is loaded once and no addition waits for the one before. */
INLINE void scores_of_64(const struct attention_head *head, size_t first)
{
    wide sums[4] = {{0}};
    for (size_t d = 0; d < head->head_dim; d++) {
        const float *keys = head->keys + d * head->capacity + first;
        float query = head->query[d] * head->scale;
        for (size_t part = 0; part < 4; part++) {
            sums[part] += query * *(const wide *)(keys + part * 16);
        }
    }
    for (size_t part = 0; part < 4; part++) {
        *(wide *)(head->scores + first + part * 16) = sums[part];
    }
}

/* The rest, one by one: each score is the same sum in the same order. */
INLINE void scores_of_rest(const struct attention_head *head, size_t first)
{
    for (size_t i = first; i < head->length; i++) {
        float sum = 0.0f;
        for (size_t d = 0; d < head->head_dim; d++) {
            sum += head->query[d] * head->scale * head->keys[d * head->capacity + i];
        }
        head->scores[i] = sum;
    }
}

INLINE float scores_max(const float *scores, size_t length)
{
    float strands[STRANDS];
    for (size_t s = 0; s < STRANDS; s++) {
        strands[s] = scores[0];
    }
    size_t whole = length / STRANDS * STRANDS;
    for (size_t i = 0; i < whole; i += STRANDS) {
        for (size_t s = 0; s < STRANDS; s++) {
            strands[s] = scores[i + s] > strands[s] ? scores[i + s] : strands[s];
        }
    }
    float most = strands[0];
    for (size_t s = 1; s < STRANDS; s++) {
        most = strands[s] > most ? strands[s] : most;
    }
    for (size_t i = whole; i < length; i++) {
        most = scores[i] > most ? scores[i] : most;
    }
    return most;
}

/* Scores become e^(score - most); returns their sum. */
INLINE float scores_exp(float *scores, size_t length, float most)
{
    float strands[STRANDS] = {0};
    for (size_t i = 0; i < length; i++) {
        scores[i] = numerics_exp(scores[i] - most);
    }
    size_t whole = length / STRANDS * STRANDS;
    for (size_t i = 0; i < whole; i += STRANDS) {
        for (size_t s = 0; s < STRANDS; s++) {
            strands[s] += scores[i + s];
        }
    }
    float sum = 0.0f;
    for (size_t s = 0; s < STRANDS; s++) {
        sum += strands[s];
    }
    for (size_t i = whole; i < length; i++) {
        sum += scores[i];
    }
    return sum;
}

/* Sixteen dimensions of the weighted sum of values, in four strands of positions. */
INLINE void values_of_16(const struct attention_head *head, size_t first, float inverse)
{
    wide sums[4] = {{0}};
    size_t whole = head->length / 4 * 4;
    for (size_t i = 0; i < whole; i += 4) {
        for (size_t strand = 0; strand < 4; strand++) {
            const float *values = head->values + (i + strand) * head->head_dim + first;
            sums[strand] += head->scores[i + strand] * *(const wide *)values;
        }
    }
    for (size_t i = whole; i < head->length; i++) {
        sums[0] += head->scores[i] * *(const wide *)(head->values + i * head->head_dim + first);
    }
    *(wide *)(head->out + first) = ((sums[0] + sums[1]) + (sums[2] + sums[3])) * inverse;
}

INLINE void attention_body(const struct attention_head *head)
{
    size_t whole = head->length / 64 * 64;
    for (size_t first = 0; first < whole; first += 64) {
        scores_of_64(head, first);
    }
    scores_of_rest(head, whole);
    float most = scores_max(head->scores, head->length);
    float inverse = 1.0f / scores_exp(head->scores, head->length, most);
    for (size_t first = 0; first < head->head_dim; first += 16) {
        values_of_16(head, first, inverse);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void attention_avx2(const struct attention_head *head)
{
    attention_body(head);
}

__attribute__((target("avx512f,avx512vl,avx512dq"))) static void attention_avx512(const struct attention_head *head)
{
    attention_body(head);
}
#endif

void attention_head(const struct attention_head *head)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        attention_avx512(head);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        attention_avx2(head);
        return;
    }
#endif
    attention_body(head);
}
