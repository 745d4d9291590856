/* SPDX-License-Identifier: Apache-2.0 */
/* collectives.c - the public collectives: arguments are checked here, once; backends trust them. */
#include <inttypes.h>
#include <stdint.h>

#include "base/error.h"
#include "capture/registry.h"
#include "comm/comm.h"
#include "comm/session.h"

/* A signature carries 48 bits of count (src/collective/signature.c). */
#define COUNT_MAX ((UINT64_C(1) << 48) - 1)

size_t tutti_dtype_bytes(tutti_dtype dtype)
{
    switch (dtype) {
    case TUTTI_F32:
        return 4;
    case TUTTI_F16:
    case TUTTI_BF16:
        return 2;
    }
    return 0;
}

/* -- checks: each names the call, the argument and what it should be ----------------------------- */

static const tutti_call call_default = {sizeof(tutti_call), NULL, 0, 0, 0};

static tutti_status check_call(const char *name, const tutti_comm *comm, const tutti_call **call)
{
    tutti_status status = comm_check(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    if (*call == NULL) {
        *call = &call_default;
    }
    if ((*call)->struct_bytes != sizeof(tutti_call)) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: call->struct_bytes is %zu, expected sizeof(tutti_call) = %zu", name,
                         (*call)->struct_bytes, sizeof(tutti_call));
    }
    if ((*call)->flags != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: call->flags is 0x%" PRIx32 ", expected 0: none is defined", name,
                         (*call)->flags);
    }
    if ((*call)->lane >= (uint32_t)comm->lanes) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: call->lane is %" PRIu32 ", but this communicator has %d lane%s", name,
                         (*call)->lane, comm->lanes, comm->lanes == 1 ? "" : "s");
    }
    return TUTTI_OK;
}

static tutti_status check_types(const char *name, tutti_dtype dtype, tutti_op op)
{
    if (tutti_dtype_bytes(dtype) == 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: dtype %d is none of f32 (0), f16 (1), bf16 (2)", name, (int)dtype);
    }
    if (op != TUTTI_SUM && op != TUTTI_MAX && op != TUTTI_MIN) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: op %d is none of sum (0), max (1), min (2)", name, (int)op);
    }
    return TUTTI_OK;
}

/* `blocks` blocks of `count` units must be addressable. */
static tutti_status check_count(const char *name, size_t count, size_t unit_bytes, int blocks)
{
    if (count > COUNT_MAX || count > PTRDIFF_MAX / unit_bytes / (size_t)blocks) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: a count of %zu is more than memory can hold", name, count);
    }
    return TUTTI_OK;
}

static tutti_status check_buffer(const char *name, const char *which, const void *buffer, size_t unit_bytes)
{
    if (buffer == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %s is NULL", name, which);
    }
    if ((uintptr_t)buffer % unit_bytes != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %s (%p) is not aligned to its %zu-byte elements", name, which, buffer,
                         unit_bytes);
    }
    return TUTTI_OK;
}

/* src and dst may be the same bytes where `in_place` says so (dst's start then equals it), else apart. */
static tutti_status check_overlap(const char *name, const void *src, size_t src_bytes, const void *dst,
                                  size_t dst_bytes, bool in_place)
{
    uintptr_t src_at = (uintptr_t)src;
    uintptr_t dst_at = (uintptr_t)dst;
    if (in_place || src_at + src_bytes <= dst_at || dst_at + dst_bytes <= src_at) {
        return TUTTI_OK;
    }
    return error_set(TUTTI_ERR_ARGUMENT,
                     "%s: src (%p, %zu bytes) and dst (%p, %zu bytes) overlap in a way that is not in place", name, src,
                     src_bytes, dst, dst_bytes);
}

static tutti_status check_buffers(const char *name, const void *src, size_t src_bytes, const void *dst,
                                  size_t dst_bytes, size_t unit_bytes, bool in_place)
{
    if (src_bytes == 0 && dst_bytes == 0) {
        return TUTTI_OK; /* nothing is touched: any pointer will do */
    }
    tutti_status status = check_buffer(name, "src", src, unit_bytes);
    if (status == TUTTI_OK) {
        status = check_buffer(name, "dst", dst, unit_bytes);
    }
    return status != TUTTI_OK ? status : check_overlap(name, src, src_bytes, dst, dst_bytes, in_place);
}

static const unsigned char *block_at(const void *buffer, int block, size_t block_bytes)
{
    return (const unsigned char *)buffer + (size_t)block * block_bytes;
}

static tutti_status submit(tutti_comm *comm, const struct operation *operation, const tutti_call *call)
{
    if (comm->registry->session != 0) {
        tutti_status status = session_admit(comm, operation, call);
        if (status != TUTTI_OK) {
            return status;
        }
    }
    return comm->ops->group_call(comm->group, operation, call, !comm->one_thread_drives_all);
}

/* -- reductions ----------------------------------------------------------------------------------- */

static tutti_status reduce(tutti_comm *comm, const char *name, struct operation *operation, const tutti_call *call)
{
    tutti_status status = check_call(name, comm, &call);
    if (status == TUTTI_OK) {
        status = check_types(name, operation->dtype, operation->op);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    size_t unit_bytes = tutti_dtype_bytes(operation->dtype);
    bool scatters = operation->kind == TUTTI_REDUCE_SCATTER;
    status = check_count(name, operation->count, unit_bytes, comm->world);
    if (status != TUTTI_OK) {
        return status;
    }
    size_t dst_bytes = operation->count * unit_bytes;
    size_t src_bytes = scatters ? dst_bytes * (size_t)comm->world : dst_bytes;
    bool in_place = operation->dst == (scatters ? block_at(operation->src, comm->rank, dst_bytes) : operation->src);
    status = check_buffers(name, operation->src, src_bytes, operation->dst, dst_bytes, unit_bytes, in_place);
    return status != TUTTI_OK ? status : submit(comm, operation, call);
}

tutti_status tutti_all_reduce(tutti_comm *comm, const void *src, void *dst, size_t count, tutti_dtype dtype,
                              tutti_op op, const tutti_call *call)
{
    struct operation operation = {
        .kind = TUTTI_ALL_REDUCE, .dtype = dtype, .op = op, .count = count, .src = src, .dst = dst};
    return reduce(comm, "tutti_all_reduce", &operation, call);
}

tutti_status tutti_reduce_scatter(tutti_comm *comm, const void *src, void *dst, size_t count_per_rank,
                                  tutti_dtype dtype, tutti_op op, const tutti_call *call)
{
    struct operation operation = {
        .kind = TUTTI_REDUCE_SCATTER, .dtype = dtype, .op = op, .count = count_per_rank, .src = src, .dst = dst};
    return reduce(comm, "tutti_reduce_scatter", &operation, call);
}

/* -- copies ----------------------------------------------------------------------------------------- */

tutti_status tutti_all_gather(tutti_comm *comm, const void *src, void *dst, size_t bytes_per_rank,
                              const tutti_call *call)
{
    static const char name[] = "tutti_all_gather";
    tutti_status status = check_call(name, comm, &call);
    if (status == TUTTI_OK) {
        status = check_count(name, bytes_per_rank, 1, comm->world);
    }
    if (status == TUTTI_OK) {
        bool in_place = src == block_at(dst, comm->rank, bytes_per_rank);
        status = check_buffers(name, src, bytes_per_rank, dst, bytes_per_rank * (size_t)comm->world, 1, in_place);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    struct operation operation = {.kind = TUTTI_ALL_GATHER, .count = bytes_per_rank, .src = src, .dst = dst};
    return submit(comm, &operation, call);
}

static tutti_status check_rows(const char *name, size_t rows, size_t row_bytes, size_t dst_stride_bytes, int world)
{
    if (row_bytes > 0 && rows > PTRDIFF_MAX / row_bytes) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %zu rows of %zu bytes are more than memory can hold", name, rows,
                         row_bytes);
    }
    tutti_status status = check_count(name, rows * row_bytes, 1, world);
    if (status != TUTTI_OK) {
        return status;
    }
    if (dst_stride_bytes < row_bytes * (size_t)world) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: dst_stride_bytes is %zu, but a row of dst holds %d ranks x %zu bytes",
                         name, dst_stride_bytes, world, row_bytes);
    }
    if (dst_stride_bytes > 0 && rows > PTRDIFF_MAX / dst_stride_bytes) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %zu rows %zu bytes apart are more than memory can hold", name, rows,
                         dst_stride_bytes);
    }
    return TUTTI_OK;
}

tutti_status tutti_all_gather_rows(tutti_comm *comm, const void *src, void *dst, size_t rows, size_t row_bytes,
                                   size_t dst_stride_bytes, const tutti_call *call)
{
    static const char name[] = "tutti_all_gather_rows";
    tutti_status status = check_call(name, comm, &call);
    if (status == TUTTI_OK) {
        status = check_rows(name, rows, row_bytes, dst_stride_bytes, comm->world);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    size_t bytes = rows * row_bytes;
    size_t dst_bytes = bytes == 0 ? 0 : (rows - 1) * dst_stride_bytes + row_bytes * (size_t)comm->world;
    status = check_buffers(name, src, bytes, dst, dst_bytes, 1, false);
    if (status != TUTTI_OK) {
        return status;
    }
    struct operation operation = {.kind = TUTTI_ALL_GATHER,
                                  .count = bytes,
                                  .src = src,
                                  .dst = dst,
                                  .row_bytes = bytes == 0 ? 0 : row_bytes,
                                  .dst_stride_bytes = dst_stride_bytes};
    return submit(comm, &operation, call);
}

tutti_status tutti_broadcast(tutti_comm *comm, void *buffer, size_t bytes, int root, const tutti_call *call)
{
    static const char name[] = "tutti_broadcast";
    tutti_status status = check_call(name, comm, &call);
    if (status == TUTTI_OK && (root < 0 || root >= comm->world)) {
        status = error_set(TUTTI_ERR_ARGUMENT, "%s: root %d is not a rank of this communicator (0 to %d)", name, root,
                           comm->world - 1);
    }
    if (status == TUTTI_OK) {
        status = check_count(name, bytes, 1, 1);
    }
    if (status == TUTTI_OK && bytes > 0) {
        status = check_buffer(name, "buffer", buffer, 1);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    struct operation operation = {.kind = TUTTI_BROADCAST, .root = root, .count = bytes, .src = buffer, .dst = buffer};
    return submit(comm, &operation, call);
}

tutti_status tutti_all_to_all(tutti_comm *comm, const void *src, void *dst, size_t bytes_per_rank,
                              const tutti_call *call)
{
    static const char name[] = "tutti_all_to_all";
    tutti_status status = check_call(name, comm, &call);
    if (status == TUTTI_OK) {
        status = check_count(name, bytes_per_rank, 1, comm->world);
    }
    if (status == TUTTI_OK) {
        size_t bytes = bytes_per_rank * (size_t)comm->world;
        status = check_buffers(name, src, bytes, dst, bytes, 1, src == dst);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    struct operation operation = {.kind = TUTTI_ALL_TO_ALL, .count = bytes_per_rank, .src = src, .dst = dst};
    return submit(comm, &operation, call);
}

tutti_status tutti_barrier(tutti_comm *comm, const tutti_call *call)
{
    tutti_status status = check_call("tutti_barrier", comm, &call);
    if (status != TUTTI_OK) {
        return status;
    }
    struct operation operation = {.kind = TUTTI_BARRIER};
    return submit(comm, &operation, call);
}

/* -- planning ------------------------------------------------------------------------------------- */

tutti_status tutti_plan(const tutti_comm *comm, tutti_collective kind, size_t count, tutti_dtype dtype,
                        tutti_plan_t *plan)
{
    static const char name[] = "tutti_plan";
    tutti_status status = comm_check(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    if ((int)kind < 0 || kind >= TUTTI_COLLECTIVE_COUNT) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: kind %d is no tutti_collective", name, (int)kind);
    }
    bool reduces = kind == TUTTI_ALL_REDUCE || kind == TUTTI_REDUCE_SCATTER;
    status = check_types(name, reduces ? dtype : TUTTI_F32, TUTTI_SUM);
    if (status == TUTTI_OK) {
        status = check_count(name, count, reduces ? tutti_dtype_bytes(dtype) : 1, comm->world);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    if (plan == NULL || plan->struct_bytes != sizeof(*plan)) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: plan is NULL or plan->struct_bytes is not sizeof(tutti_plan_t)",
                         name);
    }
    struct operation operation = {.kind = kind, .dtype = reduces ? dtype : TUTTI_F32, .count = count};
    comm->ops->group_plan(comm->group, &operation, plan);
    return TUTTI_OK;
}
