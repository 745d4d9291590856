/* SPDX-License-Identifier: Apache-2.0 */
#include "model_attention.h"

#include "model_numerics.h"

/* Sums and maxima over positions run in this many interleaved strands that are joined in order at the end: a
 * fixed order that SIMD of any width up to 16 floats can follow. */
#define STRANDS 16

#define INLINE static inline __attribute__((always_inline))

/* Positions are taken in blocks whose scores stay in the first-level cache while head_dim passes over them. */
#define BLOCK 1024

INLINE void scores_block(const struct attention_head *head, size_t first, size_t count)
{
    float *restrict scores = head->scores + first;
    for (size_t i = 0; i < count; i++) {
        scores[i] = 0.0f;
    }
    for (size_t d = 0; d < head->head_dim; d++) {
        const float *restrict keys = head->keys + d * head->capacity + first;
        float query = head->query[d] * head->scale;
        for (size_t i = 0; i < count; i++) {
            scores[i] += query * keys[i];
        }
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

INLINE void attention_body(const struct attention_head *head)
{
    for (size_t first = 0; first < head->length; first += BLOCK) {
        size_t left = head->length - first;
        scores_block(head, first, left < BLOCK ? left : BLOCK);
    }
    float most = scores_max(head->scores, head->length);
    float inverse = 1.0f / scores_exp(head->scores, head->length, most);
    float *restrict out = head->out;
    size_t head_dim = head->head_dim;
    for (size_t d = 0; d < head_dim; d++) {
        out[d] = 0.0f;
    }
    for (size_t i = 0; i < head->length; i++) {
        const float *restrict values = head->values + i * head_dim;
        float weight = head->scores[i];
        for (size_t d = 0; d < head_dim; d++) {
            out[d] += weight * values[d];
        }
    }
    for (size_t d = 0; d < head_dim; d++) {
        out[d] *= inverse;
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
