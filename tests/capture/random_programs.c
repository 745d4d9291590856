/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs of streams, events, captures and graphs, made by two threads in turn, beside a model of one page.
 *
 * The model predicts the status of every call. Functions check, when they run, that everything ran before that must have:
 * the model keeps, for each stream, event and the host, how far each stream and each graph must have come.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "harness/effort.h"
#include "harness/journal.h"
#include "harness/ranks.h"
#include "tutti/host.h"

enum { STREAMS = 4, EVENTS = 4, GRAPHS = 4, CAPTURES = 400, GRAPHS_ALL = 400, NODES = 256, STEPS = 400 };
enum { NOBODY = -1 };

/* How far streams and graphs must have come: functions completed. Graphs are counted from their birth. */
struct progress {
    uint64_t stream[STREAMS];
    uint64_t graph[GRAPHS_ALL];
};

struct nodes {
    uint64_t bits[NODES / 64];
};

struct model_graph {
    tutti_host_graph *handle; /* NULL: destroyed */
    int functions;
    struct nodes function_nodes;
    _Atomic uint32_t begun[NODES], ended[NODES]; /* by node: how often it has */
    int children[NODES];
    int child_count;
    _Atomic uint64_t ran; /* functions, by all launches and parents */
    uint64_t expected;    /* the same by the model */
    uint64_t launched;    /* functions, by launches alone */
    uint64_t size;        /* functions of one launch, with those of its children */
};

struct model_capture {
    bool open, invalid;
    int mode, thread, origin;
    int graph; /* index of the graph that it will become */
    int nodes;
};

struct model_stream {
    tutti_host_stream *handle;
    int capture; /* or NOBODY */
    struct nodes behind;
    uint64_t functions;
    _Atomic uint64_t ran;
};

struct model_event {
    tutti_host_event *handle;
    int capture; /* or NOBODY; may be over */
    struct nodes behind;
    struct progress progress;
};

struct eager_function {
    int stream;
    struct progress before;
};

struct node_function {
    int graph, index;
    int node;
    struct nodes behind; /* what it comes after */
};

static struct {
    struct model_stream streams[STREAMS];
    struct progress streams_known[STREAMS];
    struct progress host;
    struct model_event events[EVENTS];
    struct model_graph graphs[GRAPHS_ALL];
    int graph_count;
    struct model_capture captures[CAPTURES];
    int capture_count;
    int thread; /* that makes the present call */
    int modes[2];
    uint64_t random;
    int refused;
} m;

static int pick(int count)
{
    return (int)(ranks_random(&m.random) % (uint64_t)count);
}

static void progress_join(struct progress *into, const struct progress *from)
{
    for (int i = 0; i < STREAMS; i++) {
        into->stream[i] = into->stream[i] > from->stream[i] ? into->stream[i] : from->stream[i];
    }
    for (int i = 0; i < m.graph_count; i++) {
        into->graph[i] = into->graph[i] > from->graph[i] ? into->graph[i] : from->graph[i];
    }
}

static void progress_check(const struct progress *wanted, const char *who)
{
    for (int i = 0; i < STREAMS; i++) {
        uint64_t ran = atomic_load(&m.streams[i].ran);
        CHECK(ran >= wanted->stream[i], "%s: stream %d has come to %" PRIu64 ", not to %" PRIu64, who, i, ran,
              wanted->stream[i]);
    }
    for (int i = 0; i < GRAPHS_ALL; i++) {
        uint64_t ran = wanted->graph[i] == 0 ? 0 : atomic_load(&m.graphs[i].ran);
        CHECK(ran >= wanted->graph[i], "%s: graph %d has come to %" PRIu64 ", not to %" PRIu64, who, i, ran,
              wanted->graph[i]);
    }
}

static void run_eager(void *argument)
{
    struct eager_function *self = argument;
    progress_check(&self->before, "a function");
    uint64_t before = atomic_fetch_add(&m.streams[self->stream].ran, 1);
    CHECK(before == self->before.stream[self->stream], "stream %d is out of order", self->stream);
    free(self);
}

static bool has_bit(const struct nodes *nodes, int node)
{
    return (nodes->bits[node / 64] >> (node % 64) & 1) != 0;
}

/* Every node comes after those that the capture put before it. The host's graphs go further: they run in the order of the capture. */
static void run_node(void *argument)
{
    const struct node_function *self = argument;
    struct model_graph *graph = &m.graphs[self->graph];
    uint32_t before = atomic_fetch_add(&graph->begun[self->node], 1);
    for (int node = 0; node < NODES; node++) {
        CHECK(!has_bit(&self->behind, node) || !has_bit(&graph->function_nodes, node) ||
                  atomic_load(&graph->ended[node]) > before,
              "graph %d ran node %d before node %d", self->graph, self->node, node);
    }
    (void)atomic_fetch_add(&graph->ended[self->node], 1);
    uint64_t ran = atomic_fetch_add(&graph->ran, 1);
    CHECK(ON_DEVICES || ran % (uint64_t)graph->functions == (uint64_t)self->index,
          "graph %d ran function %d after %" PRIu64, self->graph, self->index, ran);
}

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    CHECK(memory != NULL, "no memory");
    return memory;
}

/* -- the rules ------------------------------------------------------------------------------- */

static void invalidate(int capture)
{
    if (capture != NOBODY && m.captures[capture].open) {
        m.captures[capture].invalid = true;
    }
}

static bool usable(int capture)
{
    return m.captures[capture].open && !m.captures[capture].invalid;
}

/* For calls that wait or ask about something of capture `about`. */
static tutti_status permit(int about)
{
    bool refused = about != NOBODY;
    invalidate(about);
    for (int i = 0; i < m.capture_count; i++) {
        const struct model_capture *capture = &m.captures[i];
        bool own = capture->thread == m.thread;
        int strictness = m.modes[m.thread];
        bool forbids = own ? capture->mode != 2 && strictness != 2 : capture->mode == 0 && strictness == 0;
        if (capture->open && forbids) {
            invalidate(i);
            refused = true;
        }
    }
    return refused ? TUTTI_ERR_CAPTURE : TUTTI_OK;
}

static void leave(int capture)
{
    m.captures[capture].open = false;
    for (int i = 0; i < STREAMS; i++) {
        if (m.streams[i].capture == capture) {
            m.streams[i].capture = NOBODY;
        }
    }
}

static void add_bit(struct nodes *nodes, int node)
{
    nodes->bits[node / 64] |= (uint64_t)1 << (node % 64);
}

static bool holds_all(const struct nodes *nodes, int count)
{
    for (int node = 0; node < count; node++) {
        if (!has_bit(nodes, node)) {
            return false;
        }
    }
    return true;
}

/* A node of the stream's capture; false where the capture refuses it. */
static bool add_node(struct model_stream *stream)
{
    struct model_capture *capture = &m.captures[stream->capture];
    if (capture->invalid) {
        return false;
    }
    add_bit(&stream->behind, capture->nodes++);
    return true;
}

static void count_launch(struct model_graph *graph)
{
    graph->expected += (uint64_t)graph->functions;
    for (int i = 0; i < graph->child_count; i++) {
        count_launch(&m.graphs[graph->children[i]]);
    }
}

/* -- the steps ------------------------------------------------------------------------------- */

static void expect(tutti_status expected, tutti_status got, const char *step)
{
    CHECK(expected == got, "%s by thread %d: %s instead of %s (%s)", step, m.thread, tutti_status_name(got),
          tutti_status_name(expected), tutti_last_error());
    m.refused += got != TUTTI_OK;
}

static bool full(const struct model_stream *stream)
{
    return stream->capture != NOBODY && m.captures[stream->capture].nodes == NODES;
}

static void step_enqueue(void)
{
    int index = pick(STREAMS);
    struct model_stream *stream = &m.streams[index];
    if (stream->capture == NOBODY) {
        struct eager_function *function = allocate(sizeof(*function));
        *function = (struct eager_function){index, m.streams_known[index]};
        stream->functions++;
        m.streams_known[index].stream[index] = stream->functions;
        expect(TUTTI_OK, tutti_host_enqueue(stream->handle, run_eager, function), "enqueue");
        return;
    }
    if (full(stream)) {
        return;
    }
    static struct node_function functions[GRAPHS_ALL][NODES];
    int graph = m.captures[stream->capture].graph;
    int node = m.captures[stream->capture].nodes;
    const struct nodes behind = stream->behind;
    bool recorded = add_node(stream);
    struct node_function *function = &functions[graph][recorded ? m.graphs[graph].functions : NODES - 1];
    if (recorded) {
        *function = (struct node_function){graph, m.graphs[graph].functions++, node, behind};
        add_bit(&m.graphs[graph].function_nodes, node);
    }
    expect(recorded ? TUTTI_OK : TUTTI_ERR_CAPTURE, tutti_host_enqueue(stream->handle, run_node, function), "enqueue");
}

static void step_record(void)
{
    struct model_event *event = &m.events[pick(EVENTS)];
    int index = pick(STREAMS + 1) - 1;
    struct model_stream *stream = index < 0 ? NULL : &m.streams[index];
    tutti_status expected = TUTTI_OK;
    if (stream == NULL || stream->capture == NOBODY) {
        event->capture = NOBODY;
        event->progress = stream == NULL ? (struct progress){{0}, {0}} : m.streams_known[index];
    } else if (m.captures[stream->capture].invalid) {
        expected = TUTTI_ERR_CAPTURE;
    } else {
        event->capture = stream->capture;
        event->behind = stream->behind;
    }
    expect(expected, tutti_host_event_record(event->handle, stream == NULL ? NULL : stream->handle), "record");
}

static tutti_status model_wait(struct model_stream *stream, struct progress *known, const struct model_event *event)
{
    int capture = stream == NULL ? NOBODY : stream->capture;
    if (capture == NOBODY && event->capture == NOBODY) {
        progress_join(known, &event->progress);
        return TUTTI_OK;
    }
    if (stream == NULL || event->capture == NOBODY || !usable(event->capture) ||
        (capture != NOBODY && capture != event->capture)) {
        /* An event that is over invalidates a capturing stream; an event of an invalid capture takes nobody in. */
        invalidate(capture);
        invalidate(stream == NULL || capture != NOBODY ? event->capture : NOBODY);
        return TUTTI_ERR_CAPTURE;
    }
    if (capture == NOBODY) {
        stream->capture = event->capture;
        stream->behind = event->behind;
    }
    for (int i = 0; i < NODES / 64; i++) {
        stream->behind.bits[i] |= event->behind.bits[i];
    }
    return TUTTI_OK;
}

/* Whether the rules are likely to allow it: most random waits would only break captures. */
static bool sensible(const struct model_stream *stream, const struct model_event *event)
{
    int capture = stream == NULL ? NOBODY : stream->capture;
    return capture == event->capture || (stream != NULL && capture == NOBODY && usable(event->capture));
}

static void step_wait(void)
{
    int index = pick(STREAMS + 1) - 1;
    struct model_stream *stream = index < 0 ? NULL : &m.streams[index];
    struct model_event *event = &m.events[pick(EVENTS)];
    if (!sensible(stream, event) && pick(30) != 0) {
        return;
    }
    tutti_status expected = model_wait(stream, index < 0 ? &m.host : &m.streams_known[index], event);
    expect(expected, tutti_host_stream_wait_event(stream == NULL ? NULL : stream->handle, event->handle), "wait");
    if (stream == NULL && expected == TUTTI_OK) {
        progress_check(&m.host, "the host after a wait");
    }
}

static void step_begin(void)
{
    int index = pick(STREAMS);
    struct model_stream *stream = &m.streams[index];
    int mode = pick(3);
    tutti_status expected = TUTTI_ERR_CAPTURE;
    if (stream->capture == NOBODY) {
        if (m.capture_count == CAPTURES || m.graph_count == GRAPHS_ALL) {
            return;
        }
        expected = TUTTI_OK;
        stream->capture = m.capture_count++;
        memset(&stream->behind, 0, sizeof(stream->behind));
        m.captures[stream->capture] = (struct model_capture){true, false, mode, m.thread, index, m.graph_count++, 0};
    }
    expect(expected, tutti_host_capture_begin(stream->handle, (tutti_host_capture_mode)mode), "begin");
}

/* The first stream waits for all others of its capture. */
static void join_all(int origin)
{
    struct model_event *event = &m.events[0];
    int capture = m.streams[origin].capture;
    for (int i = 0; i < STREAMS; i++) {
        if (i != origin && m.streams[i].capture == capture) {
            event->capture = capture;
            event->behind = m.streams[i].behind;
            expect(TUTTI_OK, tutti_host_event_record(event->handle, m.streams[i].handle), "record to join");
            expect(model_wait(&m.streams[origin], NULL, event),
                   tutti_host_stream_wait_event(m.streams[origin].handle, event->handle), "join");
        }
    }
}

static bool may_end(const struct model_stream *stream, int index)
{
    const struct model_capture *capture = &m.captures[stream->capture];
    return capture->origin == index && (capture->mode == 2 || capture->thread == m.thread);
}

static void step_end(void)
{
    int index = pick(STREAMS);
    struct model_stream *stream = &m.streams[index];
    tutti_status expected = TUTTI_ERR_CAPTURE;
    int graph = 0;
    if ((stream->capture == NOBODY || !may_end(stream, index)) && pick(30) != 0) {
        return;
    }
    if (stream->capture != NOBODY) {
        struct model_capture *capture = &m.captures[stream->capture];
        graph = capture->graph;
        if (!capture->invalid && may_end(stream, index) && pick(4) != 0) {
            join_all(index);
        }
        if (!may_end(stream, index)) {
            invalidate(stream->capture);
        } else {
            expected = !capture->invalid && holds_all(&stream->behind, capture->nodes) ? TUTTI_OK : TUTTI_ERR_CAPTURE;
            leave(stream->capture);
        }
    }
    tutti_host_graph *handle = NULL;
    expect(expected, tutti_host_capture_end(stream->handle, &handle), "end");
    CHECK((handle != NULL) == (expected == TUTTI_OK), "the graph of a capture's end");
    if (handle != NULL) {
        struct model_graph *made = &m.graphs[graph];
        made->handle = handle;
        made->size = (uint64_t)made->functions;
        for (int i = 0; i < made->child_count; i++) {
            made->size += m.graphs[made->children[i]].size;
        }
    }
}

static int pick_graph(void)
{
    int found = NOBODY;
    int seen = 0;
    for (int i = 0; i < m.graph_count; i++) {
        if (m.graphs[i].handle != NULL && pick(++seen) == 0) {
            found = i;
        }
    }
    return found;
}

static void step_launch(void)
{
    int which = pick_graph();
    int index = pick(STREAMS + 1) - 1;
    struct model_stream *stream = index < 0 ? NULL : &m.streams[index];
    if (which == NOBODY || (stream != NULL && full(stream))) {
        return;
    }
    struct model_graph *graph = &m.graphs[which];
    tutti_status expected = TUTTI_OK;
    if (stream != NULL && stream->capture != NOBODY && graph->size > 200) {
        return; /* a few generations of twins would never end */
    }
    if (stream != NULL && stream->capture != NOBODY) {
        struct model_graph *parent = &m.graphs[m.captures[stream->capture].graph];
        if (add_node(stream)) {
            parent->children[parent->child_count++] = which;
        } else {
            expected = TUTTI_ERR_CAPTURE;
        }
    } else {
        struct progress *known = index < 0 ? &m.host : &m.streams_known[index];
        count_launch(graph);
        graph->launched += (uint64_t)graph->functions;
        known->graph[which] = graph->launched;
    }
    expect(expected, tutti_host_graph_launch(graph->handle, stream == NULL ? NULL : stream->handle), "launch");
    progress_check(&m.host, "the host after a launch");
}

static void step_ask_stream(void)
{
    int index = pick(STREAMS);
    struct model_stream *stream = &m.streams[index];
    tutti_status expected = permit(stream->capture);
    int done = 1;
    bool query = pick(2) == 0;
    expect(expected,
           query ? tutti_host_stream_query(stream->handle, &done) : tutti_host_stream_synchronize(stream->handle),
           query ? "stream query" : "stream synchronize");
    if (expected == TUTTI_OK && done == 1) {
        progress_join(&m.host, &m.streams_known[index]);
        progress_check(&m.host, "the host after asking a stream");
    }
}

static void step_ask_event(void)
{
    struct model_event *event = &m.events[pick(EVENTS)];
    tutti_status expected = permit(event->capture);
    int done = 1;
    bool query = pick(2) == 0;
    expect(expected, query ? tutti_host_event_query(event->handle, &done) : tutti_host_event_synchronize(event->handle),
           query ? "event query" : "event synchronize");
    if (expected == TUTTI_OK && done == 1) {
        progress_join(&m.host, &event->progress);
        progress_check(&m.host, "the host after asking an event");
    }
}

static void step_info(void)
{
    const struct model_stream *stream = &m.streams[pick(STREAMS)];
    tutti_host_capture_status state = TUTTI_HOST_CAPTURE_NONE;
    uint64_t id = 0;
    CHECK_OK(tutti_host_capture_info(stream->handle, &state, &id));
    int expected = stream->capture == NOBODY ? 0 : 1 + (m.captures[stream->capture].invalid ? 1 : 0);
    bool may_be_unnamed = ON_DEVICES && expected == 2; /* CUDA does not say which capture was invalidated */
    CHECK((int)state == expected && ((id == 0) == (expected == 0) || may_be_unnamed), "state %d instead of %d, id %llu",
          (int)state, expected, (unsigned long long)id);
}

static void step_mode(void)
{
    tutti_host_capture_mode mode = (tutti_host_capture_mode)pick(3);
    int wanted = (int)mode;
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    CHECK((int)mode == m.modes[m.thread], "mode %d was %d", m.modes[m.thread], (int)mode);
    m.modes[m.thread] = wanted;
}

static void step_destroy_graph(void)
{
    int which = pick_graph();
    if (which != NOBODY) {
        tutti_host_graph_destroy(m.graphs[which].handle);
        m.graphs[which].handle = NULL;
    }
}

static void step_destroy_stream(void)
{
    int index = pick(STREAMS);
    struct model_stream *stream = &m.streams[index];
    if (stream->capture != NOBODY) {
        invalidate(stream->capture);
        if (m.captures[stream->capture].origin == index) {
            leave(stream->capture);
        }
        stream->capture = NOBODY;
    }
    tutti_host_stream_destroy(stream->handle);
    progress_join(&m.host, &m.streams_known[index]);
    progress_check(&m.host, "the host after destroying a stream");
    CHECK_OK(tutti_host_stream_create(&stream->handle));
}

static void step_destroy_event(void)
{
    struct model_event *event = &m.events[pick(EVENTS)];
    tutti_host_event_destroy(event->handle);
    memset(event, 0, sizeof(*event));
    event->capture = NOBODY;
    CHECK_OK(tutti_host_event_create(&event->handle));
}

static const struct {
    int weight;
    void (*run)(void);
} steps[] = {
    {24, step_enqueue},      {14, step_record},        {16, step_wait},         {8, step_begin}, {9, step_end},
    {10, step_launch},       {1, step_ask_stream},     {1, step_ask_event},     {4, step_info},  {1, step_mode},
    {1, step_destroy_graph}, {1, step_destroy_stream}, {1, step_destroy_event},
};

static void step(void)
{
    int total = 0;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        total += steps[i].weight;
    }
    int at = pick(total);
    size_t i = 0;
    for (; at >= steps[i].weight; i++) {
        at -= steps[i].weight;
    }
    steps[i].run();
}

/* -- the program ------------------------------------------------------------------------------ */

static sem_t turns[2];
static _Atomic int steps_left;

static void *actor(void *argument)
{
    int self = *(const int *)argument;
    for (;;) {
        gate_hold(&turns[self]);
        m.thread = self;
        int burst = 1 + pick(20);
        while (burst-- > 0 && atomic_fetch_sub(&steps_left, 1) > 0) {
            step();
        }
        bool over = atomic_load(&steps_left) <= 0;
        gate_open(&turns[1 - self]);
        if (over) {
            return NULL;
        }
    }
}

static void close_all(void)
{
    for (int i = 0; i < STREAMS; i++) {
        tutti_host_stream_destroy(m.streams[i].handle);
        CHECK(atomic_load(&m.streams[i].ran) == m.streams[i].functions, "stream %d ran %" PRIu64 " of %" PRIu64, i,
              atomic_load(&m.streams[i].ran), m.streams[i].functions);
    }
    for (int i = 0; i < m.graph_count; i++) {
        tutti_host_graph_destroy(m.graphs[i].handle);
        CHECK(atomic_load(&m.graphs[i].ran) == m.graphs[i].expected, "graph %d ran %" PRIu64 " of %" PRIu64, i,
              atomic_load(&m.graphs[i].ran), m.graphs[i].expected);
    }
    for (int i = 0; i < EVENTS; i++) {
        tutti_host_event_destroy(m.events[i].handle);
    }
}

static int program(uint64_t seed)
{
    static const int selves[2] = {0, 1};
    memset(&m, 0, sizeof(m));
    m.random = seed;
    for (int i = 0; i < STREAMS; i++) {
        m.streams[i].capture = NOBODY;
        CHECK_OK(tutti_host_stream_create(&m.streams[i].handle));
    }
    for (int i = 0; i < EVENTS; i++) {
        m.events[i].capture = NOBODY;
        CHECK_OK(tutti_host_event_create(&m.events[i].handle));
    }
    atomic_store(&steps_left, STEPS);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(sem_init(&turns[i], 0, i == 0) == 0, "sem_init");
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, actor, (void *)(uintptr_t)&selves[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    int captured = 0;
    for (int i = 0; i < m.graph_count; i++) {
        captured += m.graphs[i].expected > 0;
    }
    close_all();
    return captured;
}

int main(void)
{
    uint64_t seed = ranks_seed();
    int rounds = effort() == EFFORT_QUICK ? 20 : effort() == EFFORT_LONG ? 2000 : 150;
    int replayed = 0;
    int refused = 0;
    for (int round = 0; round < rounds; round++) {
        replayed += program(seed + (uint64_t)round);
        refused += m.refused;
    }
    printf("%d programs, %d graphs replayed, %d calls refused\n", rounds, replayed, refused);
    CHECK(replayed > rounds && refused > rounds, "the programs do too little");
    return 0;
}
