/* SPDX-License-Identifier: Apache-2.0 */
/* compute_gpu.h - a GPU as a computer (compute.h): cuBLAS for products, the tool's own kernels for the rest. */
#ifndef TUTTI_TOOL_COMPUTE_GPU_H
#define TUTTI_TOOL_COMPUTE_GPU_H

#include "compute.h"
#include "compute_kernels.h"
#include "cublas.h"
#include "gpu.h"

struct model;

/* Made by the build from compute_kernels.cu; 0 bytes if there was no nvcc. */
extern const unsigned char compute_kernels_image[] __attribute__((visibility("hidden")));
extern const uint64_t compute_kernels_image_bytes __attribute__((visibility("hidden")));

enum gpu_step_kernel {
    KERNEL_FILL,
    KERNEL_EMBED,
    KERNEL_NORM,
    KERNEL_CACHE,
    KERNEL_ATTEND,
    KERNEL_SWIGLU,
    KERNEL_FILL_STACK,
    KERNEL_ROUTE,
    KERNEL_GROUP,
    KERNEL_EXPERTS_UP,
    KERNEL_EXPERTS_DOWN,
    KERNEL_EXPERTS_SUM,
    KERNEL_TO_WIRE,
    KERNEL_ADD,
    KERNEL_PICK,
    KERNEL_REPLAY_FILL,
    KERNEL_REPLAY_CHECK,
    KERNEL_COUNT
};

struct compute_gpu {
    struct compute base; /* first: a pointer to it is one to this */
    gpu_module module;
    gpu_kernel kernels[KERNEL_COUNT];
    struct cublas *cublas;
    void *workspace;
    tutti_stream stream; /* for what must be done when a function returns */
};

/* forward->attached. The inputs of a pass are packed in page-locked memory, and copied to the device by its first step. */
struct gpu_attached {
    unsigned char *packed; /* picks, rows: page-locked */
    unsigned char *inputs; /* the same on the device */
    size_t rows_at, packed_bytes;
    float *embeddings;      /* [rows_max][hidden], page-locked, read by the device where it is */
    struct rows_pick *pick; /* [picks_max], on the device */
    int16_t *lines;         /* [rows_max] lines of the route log, page-locked, */
    int16_t *lines_given;   /* and on the device, where the experts are given; NULL without a log */
    float *logits;          /* page-locked copy, in real numerics; else NULL */
};

/* NULL with a sentence. */
struct compute *compute_gpu_open(const char *backend, int device, char *why, size_t why_bytes);

/* How many devices there are, name and free memory of the current one. False with the sentence in survey->why. */
bool compute_gpu_describe(struct compute_survey *survey);

static inline struct compute_gpu *compute_gpu_of(struct compute *compute)
{
    return (struct compute_gpu *)compute;
}

/* Notes gpu_error() if `done` is false. */
tutti_status compute_gpu_note(struct compute *compute, bool done);

/* compute_gpu_steps.c */
bool compute_gpu_attach(struct compute *compute, struct forward *forward);
void compute_gpu_detach(struct compute *compute, struct forward *forward);
void compute_gpu_stage(struct compute *compute, struct forward *forward);
void compute_gpu_collect(struct compute *compute, struct forward *forward);
bool compute_gpu_warm(struct compute *compute, struct forward *forward, int rows, int picks, tutti_stream stream);
tutti_status compute_gpu_enqueue(struct compute *compute, const struct forward_step *step, tutti_stream stream);
/* How many blocks an element-wise kernel of `count` elements gets. */
unsigned compute_gpu_blocks(size_t count);
tutti_status compute_gpu_launch(struct compute *compute, enum gpu_step_kernel kernel, const struct gpu_launch *how,
                                tutti_stream stream, void *arguments);

/* compute_gpu_experts.c */
bool compute_gpu_stack_create(struct compute *compute, struct matrix_stack *stack, size_t count, size_t inputs,
                              size_t outputs);
void compute_gpu_stack_destroy(struct compute *compute, struct matrix_stack *stack);
bool compute_gpu_stack_fill(struct compute *compute, const struct matrix_stack *stack, size_t first,
                            const struct weights_stack *weights);
/* Whether the kernels take the model's experts; else a sentence. */
bool compute_gpu_experts_fit(struct compute *compute, const struct model *model);
tutti_status compute_gpu_route(struct compute *compute, const struct forward_step *step, tutti_stream stream);
tutti_status compute_gpu_experts(struct compute *compute, const struct forward_step *step, tutti_stream stream);
tutti_status compute_gpu_experts_sum(struct compute *compute, const struct forward_step *step, tutti_stream stream);

#endif
