/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute.h - who computes the model: the host's processor, or a GPU.
 *
 * What a forward pass consists of stands in model_plan.c alone, as a list of steps. A computer has the memory that the steps work
 * on, streams and graphs to put them into, and an implementation of each step: compute_host*.c, compute_gpu*.c. Ranks are
 * processes, and each opens one computer.
 *
 * Functions that fail leave one sentence in compute->sentence, also when it was the library that failed. Unless it says
 * otherwise, a function has done its work when it returns. "Memory" is the computer's: the host reads it through get() only.
 */
#ifndef TUTTI_TOOL_COMPUTE_H
#define TUTTI_TOOL_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

struct forward;
struct forward_step;
struct matrix;
struct matrix_stack;
struct replay_call;
struct weights_source;
struct weights_stack;

struct compute {
    const struct compute_ops *ops;
    int device;           /* for the communicator */
    size_t score_vectors; /* how many heads it attends at a time: each needs a vector of scores */
    char sentence[600];   /* why the last function failed that did */
};

/* Memory whose pages come and go under its address, as allocators with virtual memory make it, memory savers above all. */
struct compute_pages {
    void *address; /* NULL: none */
    size_t bytes;
    bool shareable;  /* peers can be given the pages; a host's never can */
    uint64_t handle; /* the computer's */
};

struct compute_ops {
    const char *backend; /* the communicator's */
    void (*close)(struct compute *compute);

    /* -- memory; contents begin undefined ---------------------------------------------------------- */
    void *(*alloc)(struct compute *compute, size_t bytes);  /* NULL if there is none left */
    void (*release)(struct compute *compute, void *memory); /* NULL is allowed */
    bool (*put)(struct compute *compute, void *memory, const void *from, size_t bytes);
    bool (*get)(struct compute *compute, void *to, const void *memory, size_t bytes);
    bool (*spoil)(struct compute *compute, void *memory, size_t bytes); /* all bits set: NaN */

    bool (*pages_map)(struct compute *compute, struct compute_pages *pages, size_t bytes, bool shareable);
    bool (*pages_replace)(struct compute *compute,
                          struct compute_pages *pages);                        /* nobody uses them; contents are lost */
    void (*pages_unmap)(struct compute *compute, struct compute_pages *pages); /* none: allowed */

    /* -- weights: the layout of matrix->data is the computer's business ------------------------------ */
    bool (*matrix_create)(struct compute *compute, struct matrix *matrix, size_t inputs, size_t outputs); /* zero */
    void (*matrix_destroy)(struct compute *compute, struct matrix *matrix); /* data == NULL is allowed */
    bool (*matrix_fill)(struct compute *compute, struct matrix *matrix, size_t first,
                        const struct weights_source *source); /* as weights_fill */
    bool (*stack_create)(struct compute *compute, struct matrix_stack *stack, size_t count, size_t inputs,
                         size_t outputs);                                       /* zero */
    void (*stack_destroy)(struct compute *compute, struct matrix_stack *stack); /* data == NULL is allowed */
    bool (*stack_fill)(struct compute *compute, const struct matrix_stack *stack, size_t first,
                       const struct weights_stack *weights); /* as weights_fill_stack */

    /* -- streams and graphs -------------------------------------------------------------------------- */
    tutti_status (*stream_create)(struct compute *compute, tutti_stream *stream);
    void (*stream_destroy)(struct compute *compute, tutti_stream stream); /* NULL is allowed; waits for its work */
    tutti_status (*synchronize)(struct compute *compute, tutti_stream stream);
    /* Enqueues a function of the host's, which makes no call of a driver. */
    tutti_status (*call)(struct compute *compute, tutti_stream stream, void (*function)(void *argument),
                         void *argument);
    tutti_status (*capture_begin)(struct compute *compute, tutti_stream stream); /* global: the strictest mode */
    tutti_status (*capture_end)(struct compute *compute, tutti_stream stream, void **graph);
    tutti_status (*graph_launch)(struct compute *compute, void *graph, tutti_stream stream);
    void (*graph_destroy)(struct compute *compute, void *graph); /* NULL is allowed */
    /* What a watchdog thread of some other library does all the time, and what invalidates a global capture of any thread: asks
     * whether work has completed. For a thread that is not the computer's own. */
    void (*meddle)(struct compute *compute);

    /* -- the forward pass ----------------------------------------------------------------------------- */
    /* What a pass needs beside its scratch; sets forward->outputs. */
    bool (*attach)(struct compute *compute, struct forward *forward);
    void (*detach)(struct compute *compute, struct forward *forward); /* also after a failed attach */
    /* Before a pass is enqueued or launched: forward->inputs are as it shall see them. */
    void (*stage)(struct compute *compute, struct forward *forward);
    /* After a pass has completed: what it noted in the host's memory. */
    void (*collect)(struct compute *compute, struct forward *forward);
    /* Before the first pass over `rows` rows (0: none), or the first head over `picks` (0), is captured: whatever must not be done in
     * a capture. */
    bool (*warm)(struct compute *compute, struct forward *forward, int rows, int picks, tutti_stream stream);
    /* Enqueues or captures one step that is no collective; the step lives as long as the work and its graphs. */
    tutti_status (*enqueue)(struct compute *compute, const struct forward_step *step, tutti_stream stream);

    /* -- storm_random_replay.c: new inputs for a collective; checks its outputs; the call is in memory ------------ */
    tutti_status (*replay_fill)(struct compute *compute, struct replay_call *call, tutti_stream stream);
    tutti_status (*replay_check)(struct compute *compute, struct replay_call *call, tutti_stream stream);
};

/* Whether a model can be computed on the backend at all: "host" and "cuda". */
bool compute_knows(const char *backend);

/* The calling process's computer on a device of the backend. NULL with one sentence in `why`. */
struct compute *compute_open(const char *backend, int device, char *why, size_t why_bytes);
void compute_close(struct compute *compute); /* NULL is allowed */

/* Notes the library's sentence if `status` is not TUTTI_OK; returns the status. */
tutti_status compute_note(struct compute *compute, tutti_status status);

/* What the backend has, found out in a child process: see gpu.h for why. */
struct compute_survey {
    int devices;
    size_t free_bytes; /* of device 0's memory */
    char name[128];    /* of device 0 */
    char why[600];     /* why nothing can be computed there; "" */
};

/* False, with one sentence in survey->why, if the backend cannot be used. */
bool compute_survey(const char *backend, struct compute_survey *survey);

#endif
