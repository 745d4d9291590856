/* SPDX-License-Identifier: Apache-2.0 */
/* The backend's own work in streams, captures and graphs: who owns a payload in every outcome, chains, failures. */
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "device/host/stream.h"
#include "harness/journal.h"
#include "harness/ranks.h"

struct payload {
    _Atomic int runs, drops, recorded;
    tutti_status status;
    const char *sentence;
};

static tutti_host_stream *a, *b;
static tutti_host_event *event;

static tutti_status run(void *argument)
{
    struct payload *payload = argument;
    CHECK(atomic_load(&payload->drops) == 0, "ran after it was dropped");
    (void)atomic_fetch_add(&payload->runs, 1);
    return payload->status == TUTTI_OK ? TUTTI_OK : error_set(payload->status, "%s", payload->sentence);
}

static void drop(void *argument)
{
    (void)atomic_fetch_add(&((struct payload *)argument)->drops, 1);
}

static void recorded(void *argument)
{
    (void)atomic_fetch_add(&((struct payload *)argument)->recorded, 1);
}

static tutti_status submit_chained(tutti_host_stream *stream, struct payload *payload, const void *chain)
{
    const struct work work = {.run = run,
                              .drop = drop,
                              .recorded = recorded,
                              .payload = payload,
                              .name = "all_reduce",
                              .chain = chain,
                              .collective = true};
    return stream_submit(stream, &work);
}

static tutti_status submit(tutti_host_stream *stream, struct payload *payload)
{
    return submit_chained(stream, payload, NULL);
}

static void expect(const struct payload *payload, int runs, int drops, int times_recorded, const char *what)
{
    int got_runs = atomic_load(&payload->runs);
    int got_drops = atomic_load(&payload->drops);
    int got_recorded = atomic_load(&payload->recorded);
    CHECK(got_runs == runs && got_drops == drops && got_recorded == times_recorded,
          "%s: %d runs, %d drops, recorded %d times", what, got_runs, got_drops, got_recorded);
}

static tutti_host_graph *end(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_end(a, &graph));
    return graph;
}

static void fork_stream(void)
{
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_stream_wait_event(b, event));
}

static void eager(void)
{
    struct payload payload = {0};
    CHECK_OK(submit(a, &payload));
    CHECK_OK(tutti_host_stream_synchronize(a));
    expect(&payload, 1, 1, 0, "eager");
    const struct work bare = {.run = run, .payload = &payload, .name = "bare"}; /* without drop and recorded */
    atomic_store(&payload.drops, 0);
    CHECK_OK(stream_submit(a, &bare));
    CHECK_OK(tutti_host_stream_synchronize(a));
    expect(&payload, 2, 0, 0, "without drop");
}

static void captured(void)
{
    struct payload payload = {0};
    struct payload forked = {0};
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(submit(a, &payload));
    fork_stream();
    CHECK_OK(submit(b, &forked));
    CHECK_OK(tutti_host_event_record(event, b));
    CHECK_OK(tutti_host_stream_wait_event(a, event));
    expect(&payload, 0, 0, 1, "recorded");
    tutti_host_graph *graph = end();
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    CHECK(info.collectives == 2 && info.functions == 0 && info.nodes == 2, "info");
    CHECK_OK(tutti_host_graph_launch(graph, b));
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    CHECK_OK(tutti_host_stream_synchronize(b));
    expect(&payload, 2, 0, 1, "launched");
    tutti_host_graph_destroy(graph);
    expect(&payload, 2, 1, 1, "destroyed");
    expect(&forked, 2, 1, 1, "destroyed");
}

/* A child's payloads live as long as its parent, and a launch that waits keeps them, too. */
static void kept_alive(void)
{
    struct payload payload = {0};
    sem_t gate;
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(submit(a, &payload));
    tutti_host_graph *child = end();
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_graph_launch(child, a));
    tutti_host_graph *parent = end();
    tutti_host_graph_destroy(child);
    expect(&payload, 0, 0, 1, "kept by the parent");
    CHECK_OK(tutti_host_enqueue(b, gate_hold, &gate));
    CHECK_OK(tutti_host_graph_launch(parent, b));
    tutti_host_graph_destroy(parent);
    expect(&payload, 0, 0, 1, "kept by the launch");
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(b));
    expect(&payload, 1, 1, 1, "after the launch");
}

enum ending { INVALID, UNJOINED, STREAM_DESTROYED, FORKED_STREAM_DESTROYED, ENDINGS };

static void spoil(enum ending ending)
{
    struct payload kept[3] = {{0}, {0}, {0}};
    struct payload refused = {0};
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(submit(a, &kept[0]));
    fork_stream();
    CHECK_OK(submit(b, &kept[1]));
    CHECK_OK(submit(a, &kept[2]));
    if (ending == INVALID) {
        CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_synchronize(a));
        CHECK_STATUS(TUTTI_ERR_CAPTURE, submit(b, &refused));
        CHECK(strstr(tutti_last_error(), "all_reduce") != NULL, "sentence: %s", tutti_last_error());
    } else if (ending == STREAM_DESTROYED) {
        tutti_host_stream_destroy(a);
        CHECK_OK(tutti_host_stream_create(&a));
    } else if (ending == FORKED_STREAM_DESTROYED) {
        tutti_host_stream_destroy(b);
        CHECK_OK(tutti_host_stream_create(&b));
        CHECK_STATUS(TUTTI_ERR_CAPTURE, submit(a, &refused));
    }
    if (ending != STREAM_DESTROYED) {
        expect(&kept[0], 0, 0, 1, "before the end");
        CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(a, &graph));
    }
    for (int i = 0; i < 3; i++) {
        expect(&kept[i], 0, 1, 1, "a capture that came to nothing");
    }
    expect(&refused, 0, 0, 0, "a refused payload is still the caller's");
}

/* All nodes run; the launch returns the first failure with its sentence. A stream's launch has nobody to tell. */
static void failing(void)
{
    struct payload payloads[4] = {{.status = TUTTI_OK},
                                  {.status = TUTTI_ERR_TIMEOUT, .sentence = "the first failure"},
                                  {.status = TUTTI_ERR_PEER_LOST, .sentence = "the second failure"},
                                  {.status = TUTTI_OK}};
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    for (int i = 0; i < 4; i++) {
        CHECK_OK(submit(a, &payloads[i]));
    }
    tutti_host_graph *child = end();
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_graph_launch(child, a));
    tutti_host_graph *parent = end();
    CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_host_graph_launch(child, NULL));
    CHECK(strcmp(tutti_last_error(), "the first failure") == 0, "sentence: %s", tutti_last_error());
    CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_host_graph_launch(parent, NULL));
    CHECK(strcmp(tutti_last_error(), "the first failure") == 0, "sentence: %s", tutti_last_error());
    CHECK_OK(tutti_host_graph_launch(parent, b));
    CHECK_OK(tutti_host_stream_synchronize(b));
    tutti_host_graph_destroy(parent);
    tutti_host_graph_destroy(child);
    for (int i = 0; i < 4; i++) {
        expect(&payloads[i], 3, 1, 1, "around a failure");
    }
}

static uint64_t edges_of(tutti_host_graph *graph)
{
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    tutti_host_graph_destroy(graph);
    return info.edges;
}

/* Work of one chain is ordered across streams; where the streams order it already, nothing is added. */
static void chains(void)
{
    static const char lanes[2] = {0, 0};
    struct payload payloads[8];
    memset(payloads, 0, sizeof(payloads));

    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    fork_stream();
    CHECK_OK(submit_chained(b, &payloads[0], &lanes[0]));
    CHECK_OK(submit_chained(a, &payloads[1], &lanes[0])); /* an edge, which also joins b */
    CHECK_OK(submit_chained(a, &payloads[2], &lanes[0])); /* behind the last in any case: one edge */
    CHECK(edges_of(end()) == 2, "edges of one chain");

    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    fork_stream();
    CHECK_OK(submit_chained(b, &payloads[3], &lanes[0]));
    CHECK_OK(submit_chained(a, &payloads[4], &lanes[1]));
    CHECK_OK(tutti_host_event_record(event, b));
    CHECK_OK(tutti_host_stream_wait_event(a, event));
    CHECK_OK(submit_chained(a, &payloads[5], &lanes[0])); /* behind both by the streams */
    CHECK(edges_of(end()) == 2, "edges of two chains");

    /* A chain ends with its capture. */
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(submit_chained(a, &payloads[6], &lanes[0]));
    CHECK(edges_of(end()) == 0, "edges of one node");
}

/* Any mixture of streams, captures, refusals and launches: each payload is dropped once, unless it stayed ours. */
static void random_owners(uint64_t seed)
{
    enum { PAYLOADS = 300 };
    static struct payload payloads[PAYLOADS];
    static int owned[PAYLOADS];
    tutti_host_graph *graph = NULL;
    tutti_host_capture_mode mode = TUTTI_HOST_CAPTURE_RELAXED;
    memset(payloads, 0, sizeof(payloads));
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    for (int i = 0; i < PAYLOADS; i++) {
        uint64_t random = ranks_random(&seed);
        tutti_host_stream *stream = random % 2 == 0 ? a : b;
        owned[i] = submit_chained(stream, &payloads[i], random % 3 == 0 ? &payloads : NULL) != TUTTI_OK;
        if (random >> 8 & 1) {
            (void)tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_RELAXED);
        } else if (random >> 9 & 1) {
            (void)tutti_host_event_record(event, stream);
        } else if (random >> 10 & 1) {
            (void)tutti_host_stream_wait_event(stream, event);
        } else if ((random >> 11 & 7) == 0) {
            (void)tutti_host_stream_synchronize(stream);
        } else {
            tutti_host_graph *made = NULL;
            if (tutti_host_capture_end(stream, &made) == TUTTI_OK) {
                tutti_host_graph_destroy(graph);
                graph = made;
            }
        }
        if (graph != NULL && (random >> 16 & 3) == 0) {
            (void)tutti_host_graph_launch(graph, stream);
        }
    }
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(a);
    tutti_host_stream_destroy(b);
    for (int i = 0; i < PAYLOADS; i++) {
        CHECK(atomic_load(&payloads[i].drops) == 1 - owned[i], "payload %d was dropped %d times", i,
              atomic_load(&payloads[i].drops));
    }
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_event_create(&event));
    eager();
    captured();
    kept_alive();
    for (int ending = 0; ending < ENDINGS; ending++) {
        spoil((enum ending)ending);
    }
    failing();
    chains();
    uint64_t seed = ranks_seed();
    for (int round = 0; round < 100; round++) {
        random_owners(seed + (uint64_t)round);
    }
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
