/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_scene.h - ranks of a test on devices, and collectives with buffers there whose inputs are new for every call.
 *
 *     struct gpu_scene *scene = gpu_scene_make("processes-4");     or threads-N, which share devices if there are fewer of those
 *     gpu_scene_run(scene, 280, body, user);                       body(self, user) on every rank
 *
 * All ranks take the same steps in the same order, so that a call has the same number everywhere.
 */
#ifndef TESTS_HARNESS_GPU_SCENE_H
#define TESTS_HARNESS_GPU_SCENE_H

#include <pthread.h>
#include <stdbool.h>

#include "harness/gpu.h"
#include "harness/gpu_memory.h"

struct gpu_rank;
typedef void (*gpu_body)(struct gpu_rank *self, void *user);

/* In memory that the ranks' processes share. */
struct gpu_scene {
    const char *backend; /* TUTTI_TEST_GPU, "cuda" by default */
    int world, devices;
    bool threads;
    pthread_barrier_t barrier;
    gpu_body body;
    void *user;
    void (*prepare)(int rank, void *user); /* before a rank loads the driver; or NULL */
    bool own_device_only;                  /* as `prepare` has it: every rank's device is number 0 */
    bool says[8];                          /* by rank, between two meetings */
};

struct gpu_rank {
    struct gpu_scene *scene;
    int rank, device;
    const char *rendezvous;
    tutti_comm *comm;
    tutti_stream stream;
    uint64_t call; /* of the last inputs */
    unsigned char *host;
    size_t host_bytes;
};

/* Makes large calls direct where they can be, from one byte on; skips the test if there are too few devices. */
struct gpu_scene *gpu_scene_make(const char *how);
void gpu_scene_run(struct gpu_scene *scene, int seconds, gpu_body body, void *user);

/* lanes: 0 means 1. All ranks. The second is for those that may fail. */
void gpu_rank_join(struct gpu_rank *self, uint32_t flags, int lanes);
tutti_status gpu_rank_try_join(struct gpu_rank *self, uint32_t flags, int lanes);
void gpu_rank_leave(struct gpu_rank *self);

/* A kind of memory that all ranks of the scene can share, whatever the flags: also threads with devices of their own. */
enum gpu_memory_kind gpu_shared_kind(const struct gpu_rank *self);

/* All ranks are here. */
void gpu_meet(struct gpu_rank *self);

/* The same if they are threads: none of them may allocate, free, instantiate or wait for the device while another one's kernel
 * waits for his. */
void gpu_step(struct gpu_rank *self);

/* -- collectives ------------------------------------------------------------------------------------------- */

/* all_reduce (sum), reduce_scatter (sum) or all_gather. In place as tutti.h has it. */
struct gpu_work {
    tutti_collective kind;
    tutti_dtype dtype;
    size_t bytes; /* of a rank's block; of the message for all_reduce. Whole elements */
    unsigned char *src, *dst;
    uint32_t lane;
    uint64_t call; /* its inputs'; set by gpu_work_fill */
};

size_t gpu_work_src_bytes(const struct gpu_rank *self, const struct gpu_work *work);
size_t gpu_work_dst_bytes(const struct gpu_rank *self, const struct gpu_work *work);

void gpu_work_fill(struct gpu_rank *self, struct gpu_work *work);
/* On `stream`; NULL: the rank's own. */
tutti_status gpu_work_call(struct gpu_rank *self, const struct gpu_work *work, tutti_stream stream);
/* Waits for the stream, and compares every bit. */
void gpu_work_verify(struct gpu_rank *self, const struct gpu_work *work, const char *what);

/* All of them on the rank's stream, in a graph; calls that the capture refuses fail the test. */
gpu_graph gpu_works_capture(struct gpu_rank *self, const struct gpu_work *works, int count);
/* New inputs, a launch, and all results looked at. */
void gpu_works_replay(struct gpu_rank *self, gpu_graph graph, struct gpu_work *works, int count, const char *what);

tutti_stats gpu_stats(const struct gpu_rank *self);

/* Since `before`, so many calls have gone directly and so many have been staged. */
void gpu_stats_grew(const struct gpu_rank *self, const tutti_stats *before, uint64_t direct, uint64_t staged,
                    const char *what);

/* After all graphs were destroyed: commits until nothing of them is left. Drivers end them when they please, and a rank that still has
 * one that was never committed makes that commit drop it with CAPTURE. */
void gpu_commit_until_empty(struct gpu_rank *self, const char *what);

#endif
