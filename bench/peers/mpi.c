/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mpi.c - the peer program of `tutti bench`: an MPI library behind the loop of bench_measure.h.
 *
 *     mpirun -n N tutti-peer-openmpi SOCKET
 *
 * One source, compiled once with each MPI that is installed. Every rank connects to the bench's abstract socket and
 * then takes its orders from there, so that ranks whose turn it is not sleep in recv() instead of spinning in
 * MPI. MPI 3.1 has no 16-bit floats: their sum is an MPI_Op of our own over MPI_UINT16_T, as an MPI program
 * would write it, with the processor's conversion instructions where it has them.
 */
#include <limits.h>
#include <mpi.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench_measure.h"
#include "tutti/tutti.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct mpi {
    MPI_Op sum_f16, sum_bf16;
    char text[400];
};

/* -- sums of 16-bit floats ------------------------------------------------------------------- */

static void sum_f16_portable(const uint16_t *in, uint16_t *inout, int count)
{
    for (int i = 0; i < count; i++) {
        _Float16 left;
        _Float16 right;
        memcpy(&left, &inout[i], sizeof(left));
        memcpy(&right, &in[i], sizeof(right));
        _Float16 sum = (_Float16)((float)left + (float)right);
        memcpy(&inout[i], &sum, sizeof(sum));
    }
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* Round to nearest even; the bench's values are never NaN. */
static inline void sum_bf16_loop(const uint16_t *in, uint16_t *inout, int count)
{
    for (int i = 0; i < count; i++) {
        uint32_t sum = bits_of(float_of((uint32_t)inout[i] << 16) + float_of((uint32_t)in[i] << 16));
        inout[i] = (uint16_t)((sum + 0x7fffu + ((sum >> 16) & 1u)) >> 16);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) static void sum_f16_avx2(const uint16_t *in, uint16_t *inout, int count)
{
    int done = 0;
    for (; done + 8 <= count; done += 8) {
        __m256 left = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(inout + done)));
        __m256 right = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + done)));
        __m128i sum = _mm256_cvtps_ph(_mm256_add_ps(left, right), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(inout + done), sum);
    }
    sum_f16_portable(in + done, inout + done, count - done);
}

__attribute__((target("avx2"))) static void sum_bf16_avx2(const uint16_t *in, uint16_t *inout, int count)
{
    sum_bf16_loop(in, inout, count);
}
#endif

static void sum_f16(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) {
        sum_f16_avx2(in, inout, *count);
        return;
    }
#endif
    sum_f16_portable(in, inout, *count);
}

static void sum_bf16(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        sum_bf16_avx2(in, inout, *count);
        return;
    }
#endif
    sum_bf16_loop(in, inout, *count);
}

/* -- the library behind the loop ------------------------------------------------------------- */

static int result(struct mpi *mpi, int code)
{
    int length = 0;
    char why[MPI_MAX_ERROR_STRING] = "";
    if (code == MPI_SUCCESS) {
        return 0;
    }
    (void)MPI_Error_string(code, why, &length);
    (void)snprintf(mpi->text, sizeof(mpi->text), "%.390s", why);
    return -1;
}

static int mpi_call(void *self, const struct bench_order *order, int root, const void *src, void *dst)
{
    struct mpi *mpi = self;
    MPI_Datatype type = order->dtype == TUTTI_F32 ? MPI_FLOAT : MPI_UINT16_T;
    MPI_Op sum = order->dtype == TUTTI_F32 ? MPI_SUM : order->dtype == TUTTI_F16 ? mpi->sum_f16 : mpi->sum_bf16;
    if (order->count > INT_MAX) {
        (void)snprintf(mpi->text, sizeof(mpi->text), "MPI 3.1 counts end at %d elements", INT_MAX);
        return -1;
    }
    int count = (int)order->count;
    switch ((tutti_collective)order->collective) {
    case TUTTI_ALL_REDUCE:
        return result(mpi, MPI_Allreduce(src, dst, count, type, sum, MPI_COMM_WORLD));
    case TUTTI_REDUCE_SCATTER:
        return result(mpi, MPI_Reduce_scatter_block(src, dst, count, type, sum, MPI_COMM_WORLD));
    case TUTTI_ALL_GATHER:
        return result(mpi, MPI_Allgather(src, count, type, dst, count, type, MPI_COMM_WORLD));
    case TUTTI_BROADCAST:
        return result(mpi, MPI_Bcast(dst, count, type, root, MPI_COMM_WORLD));
    case TUTTI_ALL_TO_ALL:
        return result(mpi, MPI_Alltoall(src, count, type, dst, count, type, MPI_COMM_WORLD));
    case TUTTI_BARRIER:
        return result(mpi, MPI_Barrier(MPI_COMM_WORLD));
    }
    (void)snprintf(mpi->text, sizeof(mpi->text), "no collective has the number %u", order->collective);
    return -1;
}

static int mpi_barrier(void *self)
{
    return result(self, MPI_Barrier(MPI_COMM_WORLD));
}

static const char *mpi_text(void *self)
{
    struct mpi *mpi = self;
    return mpi->text;
}

static const struct bench_library mpi_library = {.call = mpi_call, .barrier = mpi_barrier, .text = mpi_text};

/* -- start ----------------------------------------------------------------------------------- */

static int connect_to_bench(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length > sizeof(address.sun_path) - 1) {
        return -1;
    }
    memcpy(address.sun_path + 1, name, length); /* abstract: the leading zero stays */
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, bytes) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Whether this MPI yields the processor while it waits: decides what happens with more ranks than cores. Open
 * MPI tells through its control variables; "" where there is no such variable. */
static const char *yield_text(void)
{
    int provided = 0;
    int index = 0;
    int elements = 0;
    int yields = 0;
    const char *text = "";
    if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) {
        return text;
    }
    MPI_T_cvar_handle handle;
    if (MPI_T_cvar_get_index("mpi_yield_when_idle", &index) == MPI_SUCCESS &&
        MPI_T_cvar_handle_alloc(index, NULL, &handle, &elements) == MPI_SUCCESS) {
        if (elements == 1 && MPI_T_cvar_read(handle, &yields) == MPI_SUCCESS) {
            text = yields != 0 ? "; yields when idle" : "; spins when idle";
        }
        (void)MPI_T_cvar_handle_free(&handle);
    }
    (void)MPI_T_finalize();
    return text;
}

static void describe(struct bench_hello *hello)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    (void)MPI_Get_library_version(version, &length);
    version[strcspn(version, ",\n")] = '\0'; /* "Open MPI v4.1.4", "MPICH Version:\t4.0.2" */
    for (char *c = version; *c != '\0'; c++) {
        *c = *c == '\t' ? ' ' : *c;
    }
    (void)snprintf(hello->text, sizeof(hello->text), "%.200s", version);
    (void)snprintf(hello->device_text, sizeof(hello->device_text), "host%s", yield_text());
}

int main(int argc, char **argv)
{
    struct bench_hello hello = {.magic = BENCH_MAGIC};
    struct mpi mpi = {.text = ""};
    if (argc != 2) {
        fprintf(stderr, "%s is started by `tutti bench --peers`\n", argv[0]);
        return 2;
    }
    if (MPI_Init(&argc, &argv) != MPI_SUCCESS) {
        return 1;
    }
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &hello.rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &hello.ranks);
    (void)MPI_Op_create(sum_f16, 1, &mpi.sum_f16);
    (void)MPI_Op_create(sum_bf16, 1, &mpi.sum_bf16);
    describe(&hello);
    int fd = connect_to_bench(argv[1]);
    if (fd < 0) {
        fprintf(stderr, "%s: no bench listens on %s\n", argv[0], argv[1]);
        (void)MPI_Abort(MPI_COMM_WORLD, 1);
    }
    int failed = bench_measure_serve(fd, &hello, &mpi_library, &mpi);
    (void)close(fd);
    if (failed != 0) {
        (void)MPI_Abort(MPI_COMM_WORLD, 1); /* the other ranks may be waiting inside a call */
    }
    (void)MPI_Op_free(&mpi.sum_f16);
    (void)MPI_Op_free(&mpi.sum_bf16);
    (void)MPI_Finalize();
    return 0;
}
