/* SPDX-License-Identifier: Apache-2.0 */
#include "model_shape.h"

#include <stdio.h>
#include <string.h>

/* `tiny` divides by 2, 3, 4, 6 and 12, so that survivors of a lost rank can go on; the others have the shapes
 * their authors published (config.json of JackFram/llama-160m, meta-llama/Meta-Llama-3-8B, Qwen/Qwen3-8B, Qwen/Qwen3-30B-A3B).
 * Every inner dimension stays below 18872, that of all experts of a row together too: see model_numerics.h. */
static const struct model_shape shapes[] = {
    {"tiny", 4, 384, 24, 12, 16, 1536, 264, 10000.0f, 1e-5f, false, 0, 0},
    {"tiny-moe", 4, 384, 24, 12, 16, 96, 264, 10000.0f, 1e-6f, true, 32, 4},
    {"llama-160m", 12, 768, 12, 12, 64, 3072, 32000, 10000.0f, 1e-6f, false, 0, 0},
    {"llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, 500000.0f, 1e-5f, false, 0, 0},
    {"qwen3-8b", 36, 4096, 32, 8, 128, 12288, 151936, 1000000.0f, 1e-6f, true, 0, 0},
    {"qwen3-30b-a3b", 48, 2048, 32, 4, 128, 768, 151936, 1000000.0f, 1e-6f, true, 128, 8},
};

#define SHAPE_COUNT (sizeof(shapes) / sizeof(shapes[0]))

const struct model_shape *model_shape_find(const char *name)
{
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}

const char *model_shape_names(void)
{
    return "tiny, tiny-moe, llama-160m, llama-3-8b, qwen3-8b or qwen3-30b-a3b";
}

bool model_shape_divides(const struct model_shape *shape, int world, char *why, size_t why_bytes)
{
    /* More ranks than key-value heads share each of them among several. */
    int kv_heads = world > shape->kv_heads && world % shape->kv_heads == 0 ? world : shape->kv_heads;
    const struct {
        const char *what;
        int count;
    } parts[] = {{"query heads", shape->heads}, {"key-value heads", kv_heads}, {"MLP columns", shape->ffn}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].count % world != 0) {
            (void)snprintf(why, why_bytes, "%d ranks cannot share the %d %s of %s evenly", world, parts[i].count,
                           parts[i].what, shape->name);
            return false;
        }
    }
    return true;
}

int model_shape_world_below(const struct model_shape *shape, int world)
{
    char why[128];
    while (world > 1 && !model_shape_divides(shape, world, why, sizeof(why))) {
        world--;
    }
    return world;
}

size_t model_shape_weight_bytes(const struct model_shape *shape, size_t expert_weight_bytes)
{
    size_t hidden = (size_t)shape->hidden;
    size_t attention = hidden * (size_t)(2 * shape->heads + 2 * shape->kv_heads) * (size_t)shape->head_dim;
    size_t experts = (size_t)shape->experts;
    size_t mlp = 3 * hidden * (size_t)shape->ffn;
    size_t layer =
        sizeof(float) * (attention + (experts > 0 ? hidden * experts : mlp)) + experts * mlp * expert_weight_bytes;
    return (size_t)shape->layers * layer + sizeof(float) * hidden * (size_t)shape->vocab;
}

size_t model_shape_kv_bytes(const struct model_shape *shape)
{
    return sizeof(float) * 2 * (size_t)shape->layers * (size_t)shape->kv_heads * (size_t)shape->head_dim;
}
