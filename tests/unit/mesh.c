/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh among strangers: whoever calls without the token, with a wrong number, with the wrong memory or with too many
 * descriptors does not get in; a rank that gives up is heard by ranks that it had not yet met. */
#include "comm/mesh.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/socket.h"
#include "harness/check.h"
#include "harness/ranks.h"

#define BYTES 65536u

static int descriptors_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) != -1;
    }
    return count;
}

/* Two ranks in two processes; addresses pass through shared memory. */
struct pair {
    struct mesh_address addresses[2];
    _Atomic int ready[2], done[2];
};

static struct pair *pair_create(void)
{
    struct pair *pair = mmap(NULL, sizeof(*pair), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pair != MAP_FAILED, "mmap");
    return pair;
}

static void await(_Atomic int *word)
{
    while (*word == 0) {
        (void)usleep(1000);
    }
}

/* One rank's life; the sum of what the two wrote into their memories proves that they see each other's. */
static tutti_status live(struct pair *pair, int rank, uint32_t limit_ms)
{
    struct segment *segments[2] = {NULL, NULL};
    int sockets[2] = {-1, -1};
    int listener = -1;
    CHECK_OK(segment_create(BYTES, &segments[rank]));
    CHECK_OK(mesh_listen(segments[rank], &pair->addresses[rank], &listener));
    ((int *)segments[rank]->base)[0] = rank + 10;
    pair->ready[rank] = 1;
    await(&pair->ready[1 - rank]);
    struct mesh mesh = {rank, 2, pair->addresses, &segments[rank], sockets, segments};
    struct deadline deadline = deadline_in(limit_ms, NULL);
    tutti_status status = mesh_join(&mesh, listener, &deadline);
    if (status == TUTTI_OK) {
        CHECK(((int *)segments[1 - rank]->base)[0] == 1 - rank + 10, "not the peer's memory");
        pair->done[rank] = 1;
        await(&pair->done[1 - rank]);
    } else {
        mesh_tell(&mesh, status, tutti_last_error());
    }
    socket_close(&listener);
    socket_close(&sockets[1 - rank]);
    segment_release(segments[0]);
    segment_release(segments[1]);
    return status;
}

/* What strangers send: the caller's bytes differ from a good call's in one respect each. The layout is mesh.c's packet. */
struct forged {
    uint64_t magic;
    int32_t type, from, to, status;
    uint8_t token[MESH_TOKEN_BYTES];
    char sentence[MESH_SENTENCE_BYTES];
};

static void forge(const struct pair *pair, int how)
{
    struct forged packet = {0x3168736d69747474u, 1, 1, 0, 0, {0}, {0}};
    memcpy(packet.token, pair->addresses[0].token, sizeof(packet.token));
    int fd = socket_connect_abstract(pair->addresses[0].name, SOCK_SEQPACKET);
    CHECK(fd >= 0, "connect");
    size_t bytes = sizeof(packet);
    switch (how) {
    case 0:
        packet.token[15] ^= 1;
        break;
    case 1:
        packet.magic++;
        break;
    case 2:
        packet.from = 0;
        break;
    case 3:
        packet.from = 99;
        break;
    case 4:
        packet.to = 1;
        break;
    case 5:
        bytes--;
        break;
    case 6:
        packet.type = 3; /* a farewell, but without the token */
        packet.status = TUTTI_ERR_SYSTEM;
        packet.token[0] ^= 1;
        break;
    case 7:
        packet.from = -1;
        break;
    default:
        bytes = 1;
        break;
    }
    (void)socket_send_packet(fd, &packet, bytes, how % 2 == 0 ? STDIN_FILENO : -1);
    (void)close(fd);
}

static void test_strangers(void)
{
    struct pair *pair = pair_create();
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        int before = descriptors_count();
        CHECK_OK(live(pair, 0, 20000));
        CHECK(descriptors_count() == before, "strangers left %d descriptors", descriptors_count() - before);
        _exit(0);
    }
    await(&pair->ready[0]);
    for (int how = 0; how < 200; how++) {
        forge(pair, how % 9);
        (void)usleep(how % 9 == 0 ? 200 : 0);
    }
    CHECK_OK(live(pair, 1, 20000));
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid && state == 0, "rank 0 ended with 0x%x", (unsigned)state);
    (void)munmap(pair, sizeof(*pair));
}

/* A rank that knows the token but passes something else than its memory fails the job, by a sentence that says what. */
static void test_wrong_memory(int bytes_too_few)
{
    struct pair *pair = pair_create();
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        tutti_status status = live(pair, 0, 20000);
        CHECK(status == TUTTI_ERR_SYSTEM, "%s", tutti_status_name(status));
        CHECK(strstr(tutti_last_error(), bytes_too_few ? "32768 bytes instead of 65536" : "no shared memory") != NULL,
              "%s", tutti_last_error());
        _exit(0);
    }
    await(&pair->ready[0]);
    struct segment *small = NULL;
    int listener = -1;
    CHECK_OK(segment_create(BYTES / 2, &small));
    CHECK_OK(mesh_listen(small, &pair->addresses[1], &listener));
    pair->addresses[1].segment_bytes = BYTES;
    pair->ready[1] = 1;
    struct forged packet = {0x3168736d69747474u, 1, 1, 0, 0, {0}, {0}};
    memcpy(packet.token, pair->addresses[0].token, sizeof(packet.token));
    int fd = socket_connect_abstract(pair->addresses[0].name, SOCK_SEQPACKET);
    CHECK(fd >= 0 && socket_send_packet(fd, &packet, sizeof(packet), bytes_too_few ? segment_fd(small) : -1), "send");
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid && state == 0, "rank 0 ended with 0x%x", (unsigned)state);
    tutti_status told = TUTTI_OK;
    char sentence[MESH_SENTENCE_BYTES];
    CHECK(mesh_last_words(fd, &told, sentence) && told == TUTTI_ERR_SYSTEM, "rank 0 left without a word");
    (void)close(fd);
    socket_close(&listener);
    segment_release(small);
    (void)munmap(pair, sizeof(*pair));
}

/* Nobody comes, or the peer is dead before it has called. */
static void test_absent(int dead)
{
    struct pair *pair = pair_create();
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        struct segment *segment = NULL;
        int listener = -1;
        CHECK_OK(segment_create(BYTES, &segment));
        CHECK_OK(mesh_listen(segment, &pair->addresses[1], &listener));
        pair->ready[1] = 1;
        await(&pair->ready[0]);
        if (!dead) {
            (void)pause(); /* it listens, but never calls */
        }
        _exit(0);
    }
    tutti_status status = live(pair, 0, dead ? 60000 : 300);
    CHECK(status == (dead ? TUTTI_ERR_PEER_LOST : TUTTI_ERR_TIMEOUT), "%s: %s", tutti_status_name(status),
          tutti_last_error());
    CHECK(strstr(tutti_last_error(), "rank 1 (pid") != NULL, "%s", tutti_last_error());
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)munmap(pair, sizeof(*pair));
}

int main(void)
{
    test_strangers();
    test_wrong_memory(0);
    test_wrong_memory(1);
    test_absent(0);
    test_absent(1);
    return 0;
}
