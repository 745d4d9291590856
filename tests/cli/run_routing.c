/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's mixture of experts from within (tools/tutti/model_experts.c and the host's steps): which experts a row gets, and that
 * padding gets none. Between two replays of one captured pass the number of real rows changes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tools/tutti/compute_gpu.h"
#include "tools/tutti/compute_host.h"
#include "tools/tutti/model_forward.h"

#define EXPERTS 32
#define TOP 4
#define ROWS 8

/* This program has no GPU. */
struct compute *compute_gpu_open(const char *backend, int device, char *why, size_t why_bytes)
{
    (void)backend;
    (void)device;
    (void)snprintf(why, why_bytes, "no GPU here");
    return NULL;
}

bool compute_gpu_describe(struct compute_survey *survey)
{
    (void)survey;
    return false;
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* -- one row ----------------------------------------------------------------------------------------------- */

/* How many experts come before `expert`: a larger logit, or an equal one and a lower index. */
static size_t place_of(const float *logits, size_t expert)
{
    size_t before = 0;
    for (size_t i = 0; i < EXPERTS; i++) {
        before += logits[i] > logits[expert] || (!(logits[i] < logits[expert]) && i < expert);
    }
    return before;
}

/* Few different values, so that many are equal. */
static void check_routes(uint64_t *state)
{
    float logits[EXPERTS];
    struct expert_route routes[TOP];
    double all = 0.0;
    for (size_t i = 0; i < EXPERTS; i++) {
        logits[i] = (float)(next(state) % 9) * 0.5f - 2.0f;
    }
    experts_route(logits, EXPERTS, TOP, routes);
    for (size_t k = 0; k < TOP; k++) {
        CHECK(routes[k].expert >= 0 && routes[k].expert < EXPERTS, "expert %d", (int)routes[k].expert);
        CHECK(place_of(logits, (size_t)routes[k].expert) == k, "expert %d is not the %zu-th", (int)routes[k].expert, k);
        all += exp((double)logits[routes[k].expert]);
    }
    for (size_t k = 0; k < TOP; k++) {
        double weight = exp((double)logits[routes[k].expert]) / all;
        CHECK(fabs((double)routes[k].weight - weight) < 1e-5, "weight %g, not %g", (double)routes[k].weight, weight);
    }
}

static void check_no_number(void)
{
    float logits[EXPERTS];
    struct expert_route routes[TOP];
    for (size_t i = 0; i < EXPERTS; i++) {
        logits[i] = NAN;
    }
    experts_route(logits, EXPERTS, TOP, routes);
    for (size_t k = 0; k < TOP; k++) {
        CHECK(routes[k].expert == (int32_t)k, "expert %d of a row without numbers", (int)routes[k].expert);
    }
    logits[17] = -3.0f;
    experts_route(logits, EXPERTS, TOP, routes);
    CHECK(routes[0].expert == 17 && routes[1].expert == 0, "experts %d, %d", (int)routes[0].expert,
          (int)routes[1].expert);
}

/* -- a pass ------------------------------------------------------------------------------------------------ */

struct engine {
    struct compute *compute;
    tutti_comm *comm;
    struct model *model;
    struct kv_cache kv;
    struct forward forward;
    uint32_t real; /* rows */
    tutti_stream stream;
};

static void engine_open(struct engine *engine)
{
    char why[600];
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .world = 1};
    struct model_shape shape = *model_shape_find("tiny-moe");
    const struct forward_limits limits = {
        .rows_max = ROWS, .picks_max = ROWS, .positions_max = 4, .exchange = EXCHANGE_PLAIN};
    shape.layers = 2;
    CHECK(shape.experts == EXPERTS && shape.top == TOP, "%d experts, %d", shape.experts, shape.top);
    engine->compute = compute_host_open(why, sizeof(why));
    CHECK(engine->compute != NULL, "%s", why);
    CHECK(tutti_comm_create(&options, &engine->comm) == TUTTI_OK, "%s", tutti_last_error());
    engine->model = model_create(engine->compute, &shape, NUMERICS_EXACT, 0, 1, 4);
    CHECK(engine->model != NULL && kv_create(&engine->kv, engine->model, ROWS), "%s", engine->compute->sentence);
    CHECK(forward_create(&engine->forward, engine->model, &engine->kv, engine->comm, &limits), "%s",
          engine->compute->sentence);
    CHECK(engine->compute->ops->stream_create(engine->compute, &engine->stream) == TUTTI_OK, "%s",
          engine->compute->sentence);
}

static void engine_close(struct engine *engine)
{
    engine->compute->ops->stream_destroy(engine->compute, engine->stream);
    forward_destroy(&engine->forward);
    kv_destroy(&engine->kv);
    model_destroy(engine->model);
    tutti_comm_destroy(engine->comm);
    compute_close(engine->compute);
}

/* The first tokens of `rows` requests, the token of row r being first + r. */
static void fill(struct engine *engine, int rows, int first)
{
    struct forward_inputs *inputs = &engine->forward.inputs;
    for (int row = 0; row < rows; row++) {
        kv_close(&engine->kv, row);
        CHECK(kv_open(&engine->kv, row, row, 4), "%s", engine->compute->sentence);
        inputs->tokens[row] = first + row;
        inputs->positions[row] = 0;
        inputs->slots[row] = row;
        inputs->picks[row] = row;
        inputs->embedded[row] = 0;
    }
    inputs->real_rows = inputs->real_picks = (uint32_t)rows;
    engine->real = (uint32_t)rows;
}

/* What the last layer's routing says: each real row has its pairs, once, and no other row has any. */
static void check_items(const struct experts_work *work, int rows)
{
    size_t seen[ROWS] = {0};
    for (uint32_t i = 0; i < *work->item_count; i++) {
        for (int32_t n = 0; n < work->items[i].count; n++) {
            int32_t pair = work->order[work->items[i].first + n];
            CHECK(pair >= 0 && pair < rows * TOP, "pair %d of %d real rows", (int)pair, rows);
            CHECK(work->routes[pair].expert == work->items[i].expert, "pair %d is another expert's", (int)pair);
            seen[pair / TOP]++;
        }
    }
    for (int row = 0; row < ROWS; row++) {
        CHECK(seen[row] == (row < rows ? TOP : 0), "row %d of %d has %zu experts", row, rows, seen[row]);
    }
}

/* Padding has no expert, and adds nothing. */
static void check_routing(const struct engine *engine, int rows)
{
    const struct forward *forward = &engine->forward;
    const struct experts_work work = experts_work_in(forward->routing, ROWS * TOP, EXPERTS);
    check_items(&work, rows);
    for (int pair = rows * TOP; pair < ROWS * TOP; pair++) {
        CHECK(work.routes[pair].expert == -1, "padding is routed to expert %d", (int)work.routes[pair].expert);
    }
    size_t hidden = (size_t)engine->model->shape.hidden;
    for (size_t i = (size_t)rows * hidden; i < ROWS * hidden; i++) {
        CHECK(forward->partial[i] >= 0.0f && forward->partial[i] <= 0.0f, "padding adds %g",
              (double)forward->partial[i]);
    }
}

/* Enqueues the plan, or launches the graph. */
static void step(struct engine *engine, struct forward_plan *plan, void *graph, struct rows_pick *picks)
{
    const struct compute_ops *ops = engine->compute->ops;
    ops->stage(engine->compute, &engine->forward);
    tutti_status status = graph != NULL ? ops->graph_launch(engine->compute, graph, engine->stream)
                                        : forward_plan_enqueue(plan, 0, plan->piece_count, engine->stream);
    CHECK(status == TUTTI_OK, "%s", engine->compute->sentence);
    CHECK(ops->synchronize(engine->compute, engine->stream) == TUTTI_OK, "%s", engine->compute->sentence);
    memcpy(picks, engine->forward.outputs.picks, ROWS * sizeof(*picks));
}

static void check_same(const struct rows_pick *left, const struct rows_pick *right, int rows)
{
    for (int row = 0; row < rows; row++) {
        CHECK(left[row].token == right[row].token && left[row].hash == right[row].hash && right[row].margin >= 0.0f,
              "row %d of %d: token %d (%016llx), without padding %d (%016llx)", row, rows, (int)right[row].token,
              (unsigned long long)right[row].hash, (int)left[row].token, (unsigned long long)left[row].hash);
    }
}

static void check_padding(struct engine *engine, uint64_t *state)
{
    struct compute *compute = engine->compute;
    struct rows_pick alone[ROWS], padded[ROWS];
    struct forward_plan *plan = forward_plan_create(&engine->forward, &engine->real, ROWS);
    struct forward_plan *captured = forward_plan_create(&engine->forward, &engine->real, ROWS);
    void *graph = NULL;
    CHECK(plan != NULL && captured != NULL, "plans");
    CHECK(compute->ops->capture_begin(compute, engine->stream) == TUTTI_OK &&
              forward_plan_enqueue(captured, 0, captured->piece_count, engine->stream) == TUTTI_OK &&
              compute->ops->capture_end(compute, engine->stream, &graph) == TUTTI_OK,
          "%s", compute->sentence);
    for (int round = 0; round < 12; round++) {
        int rows = 1 + (int)(next(state) % ROWS);
        int first = (int)(next(state) % 200);
        fill(engine, rows, first);
        plan->rows = rows;
        step(engine, plan, NULL, alone);
        fill(engine, rows, first);
        forward_poison(&engine->forward);
        step(engine, NULL, graph, padded);
        check_same(alone, padded, rows);
        check_routing(engine, rows);
    }
    compute->ops->graph_destroy(compute, graph);
    forward_plan_destroy(captured);
    forward_plan_destroy(plan);
}

int main(void)
{
    uint64_t state = ranks_seed();
    struct engine engine = {0};
    for (int i = 0; i < 500; i++) {
        check_routes(&state);
    }
    check_no_number();
    engine_open(&engine);
    check_padding(&engine, &state);
    engine_close(&engine);
    return 0;
}
