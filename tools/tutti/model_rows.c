/* SPDX-License-Identifier: Apache-2.0 */
#include "model_rows.h"

#include <math.h>
#include <stdbool.h>

/* Interleaved strands give a fixed order that SIMD can follow (see model_attention.c). */
#define STRANDS 16

static float sum_of_squares(const float *in, size_t count)
{
    float strands[STRANDS] = {0};
    size_t whole = count / STRANDS * STRANDS;
    for (size_t i = 0; i < whole; i += STRANDS) {
        for (size_t s = 0; s < STRANDS; s++) {
            strands[s] += in[i + s] * in[i + s];
        }
    }
    float sum = 0.0f;
    for (size_t s = 0; s < STRANDS; s++) {
        sum += strands[s];
    }
    for (size_t i = whole; i < count; i++) {
        sum += in[i] * in[i];
    }
    return sum;
}

void rows_norm(const float *in, float *out, const float *gains, size_t count, float epsilon, float grid)
{
    float inverse = 1.0f / sqrtf(sum_of_squares(in, count) / (float)count + epsilon);
    for (size_t i = 0; i < count; i++) {
        out[i] = in[i] * inverse * gains[i];
    }
    rows_quantise(out, count, grid);
}

void rows_rope(float *head, const float *cosines, const float *sines, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float low = head[i];
        float high = head[i + half];
        head[i] = low * cosines[i] - high * sines[i];
        head[i + half] = high * cosines[i] + low * sines[i];
    }
}

void rows_swiglu(const float *gate, const float *up, float *out, size_t count, float grid)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = gate[i] / (1.0f + numerics_exp(-gate[i])) * up[i];
    }
    rows_quantise(out, count, grid);
}

void rows_swiglu_weighted(const float *gate, const float *up, float *out, size_t count, float weight, float grid)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = gate[i] / (1.0f + numerics_exp(-gate[i])) * up[i] * weight;
    }
    rows_quantise(out, count, grid);
}

void rows_quantise(float *values, size_t count, float grid)
{
    if (grid <= 0.0f) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = numerics_quantise(values[i], grid);
    }
}

void rows_add(float *hidden, const float *addend, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hidden[i] += addend[i];
    }
}

void rows_add_bf16(float *hidden, const uint16_t *addend, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hidden[i] += numerics_from_bf16(addend[i]);
    }
}

void rows_to_bf16(const float *in, uint16_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = numerics_to_bf16(in[i]);
    }
}

struct rows_pick rows_pick(const float *logits, size_t count)
{
    struct rows_pick pick = {0};
    size_t best = 0;
    float second = -INFINITY;
    bool sound = !isnan(logits[0]);
    for (size_t i = 1; i < count; i++) {
        sound = sound && !isnan(logits[i]);
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof(bits));
        pick.hash += rows_hash_part(i, bits);
    }
    pick.margin = sound ? logits[best] - second : NAN;
    pick.token = (int32_t)best;
    return pick;
}
