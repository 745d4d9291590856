/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_schedule.cpp - is the order of kernels/ring.h right, for every way, every world and every number of rounds?
 *
 * No credits are sent there: that slots are empty follows from the order in which each thread sends, takes and passes fences. Which order
 * that is depends on the way, the world and the number of rounds only, so it can be listed and looked at as a whole; the explorer meets
 * only those numbers of rounds that it draws, and of an order that is wrong only what a schedule brings to light.
 *
 * A thread and the one of each peer that it exchanges data with do the same things in the same order. So one list is this thread's, and
 * every peer's. The last round may leave threads out: that it was heard counts for nothing.
 */
#include <stdio.h>
#include <vector>

#include "kernels/ring.h"

enum action { FENCE, SEND_INPUTS, LOOK, TAKE_INPUTS, SEND_SUMS, TAKE_SUMS };

struct event {
    enum action action;
    uint32_t round;
};

/* What a thread does in a call, in this order. */
struct program {
    uint32_t segments, rounds;
    bool sums; /* they go through the staging, too */
    std::vector<struct event> events;
};

/* A rule that does not hold, and the round of which that is so; no rule: all hold. */
struct breach {
    const char *rule;
    uint32_t round;
};

struct ring {
    const char *way;
    uint32_t world, segments;
    struct program (*list)(uint32_t rounds);
};

/* -- what a thread does ------------------------------------------------------------------------------ */

/* Mirrors ring_begin and ring_go: what changes there must change here. A thread that does not ask for loads early looks when it takes:
 * later, so that is no case of its own. */
template <int world, enum ring_way way> static struct program list(uint32_t rounds)
{
    constexpr uint32_t ahead = RING_AHEAD(way, world), step = RING_STEP(way, world);
    constexpr bool staged = way == RING_STAGED;
    struct program program = {RING_SEGMENTS(way, world), rounds, staged, {}};
    std::vector<struct event> &events = program.events;
    for (uint32_t number = 0; number == 0 || (number < ahead && number < rounds); number++) {
        events.push_back({SEND_INPUTS, number});
    }
    for (uint32_t first = 0; first < rounds; first += step) {
        if (ring_fences<world, way>(rounds, first)) {
            events.push_back({FENCE, first});
        }
        if (!staged) {
            events.push_back({LOOK, first});
        }
        for (uint32_t number = first + ahead; number < first + ahead + step && number < rounds; number++) {
            events.push_back({SEND_INPUTS, number});
        }
        for (uint32_t number = first; staged && first != 0 && number < first + step; number++) {
            events.push_back({TAKE_SUMS, number - step});
        }
        for (uint32_t number = first; number < first + step && number < rounds; number++) {
            events.push_back({TAKE_INPUTS, number});
            if (staged) {
                events.push_back({SEND_SUMS, number});
            }
        }
    }
    for (uint32_t number = (rounds - 1) / step * step; staged && number < rounds; number++) {
        events.push_back({TAKE_SUMS, number});
    }
    return program;
}

/* Behind event `behind`, where is the next one of this kind? Behind the last one there is none: at the end. */
static size_t next_of(const struct program &program, enum action action, size_t behind)
{
    const std::vector<struct event> &events = program.events;
    size_t at = behind < events.size() ? behind + 1 : behind;
    while (at < events.size() && events[at].action != action) {
        at++;
    }
    return at;
}

/* Where this is done first; at the end if it is not. */
static size_t place_of(const struct program &program, enum action action, uint32_t round)
{
    size_t at = 0;
    while (at < program.events.size() && (program.events[at].action != action || program.events[at].round != round)) {
        at++;
    }
    return at;
}

/* Data of this round would tell all threads of all peers something. */
static bool is_full(const struct program &program, uint32_t round)
{
    return round + 1 < program.rounds;
}

/* -- the rules --------------------------------------------------------------------------------------- */

/* Everything that is sent is taken, once, by a thread that has sent as much itself before it waits: so none waits for ever. */
static struct breach check_all_sent(const struct program &program, enum action send, enum action take)
{
    std::vector<uint32_t> sent(program.rounds, 0), taken(program.rounds, 0);
    for (const struct event &event : program.events) {
        if ((event.action == send || event.action == take) && event.round >= program.rounds) {
            return {"there is no such round", event.round};
        }
        if (event.action == send) {
            sent[event.round]++;
        } else if (event.action == take) {
            taken[event.round]++;
            if (sent[event.round] == 0) {
                return {"taken before it is sent", event.round};
            }
        }
    }
    for (uint32_t round = 0; round < program.rounds; round++) {
        if (sent[round] != 1 || taken[round] != 1) {
            return {"not sent once and taken once", round};
        }
    }
    return {nullptr, 0};
}

/* The other half was used by the call before. A peer has emptied it when it sends anything in this call: once all of them were heard, and
 * a fence was passed behind that, it may be used. */
static struct breach check_other_half(const struct program &program)
{
    bool heard = false, passed = false;
    for (const struct event &event : program.events) {
        const bool other = event.round % program.segments >= program.segments / 2;
        if (event.action == FENCE) {
            passed = heard;
        } else if (other && !passed) {
            return {"the other half is used before it is known to be empty", event.round};
        } else if (event.action == TAKE_INPUTS && is_full(program, event.round)) {
            heard = true;
        }
    }
    return {nullptr, 0};
}

/* A slot that is emptied when `take` is done of a round is filled again when a peer does `send` of the round that has the same segment
 * next. The peer must have heard of it by then, and inputs tell it: those that this thread sends first behind a fence behind the emptying,
 * which the peer takes, and passes a fence. (Later inputs are taken later.) */
static struct breach check_refills(const struct program &program, enum action send, enum action take)
{
    for (uint32_t round = 0; round + program.segments < program.rounds; round++) {
        const size_t emptied = next_of(program, FENCE, place_of(program, take, round));
        const size_t told = next_of(program, SEND_INPUTS, emptied);
        if (told == program.events.size() || !is_full(program, program.events[told].round)) {
            return {"emptied, and no full round tells the peer so", round};
        }
        const size_t heard = place_of(program, TAKE_INPUTS, program.events[told].round);
        const size_t known = next_of(program, FENCE, heard);
        if (place_of(program, send, round + program.segments) <= known) {
            return {"filled again before it is known to be empty", round + program.segments};
        }
    }
    return {nullptr, 0};
}

static struct breach check(const struct program &program)
{
    struct breach breach = check_all_sent(program, SEND_INPUTS, TAKE_INPUTS);
    if (breach.rule == nullptr && program.sums) {
        breach = check_all_sent(program, SEND_SUMS, TAKE_SUMS);
    }
    if (breach.rule == nullptr) {
        breach = check_other_half(program);
    }
    if (breach.rule == nullptr) {
        breach = check_refills(program, SEND_INPUTS, TAKE_INPUTS);
    }
    if (breach.rule == nullptr && program.sums) {
        breach = check_refills(program, SEND_SUMS, TAKE_SUMS);
    }
    return breach;
}

/* -- all of them ------------------------------------------------------------------------------------- */

/* Of a round it matters where it lies between two fences, and whether the first or the last rounds are near. Segments are more than rounds
 * between fences: so this many rounds have every case of that. */
static bool check_ring(const struct ring &ring)
{
    for (uint32_t rounds = 1; rounds <= 4 * ring.segments + 2; rounds++) {
        const struct breach breach = check(ring.list(rounds));
        if (breach.rule != nullptr) {
            fprintf(stderr, "%s, world %u, %u rounds: round %u: %s\n", ring.way, ring.world, rounds, breach.round,
                    breach.rule);
            return false;
        }
    }
    return true;
}

template <int world> static bool check_world()
{
    const struct ring rings[] = {
        {"RING_SCATTER", world, RING_SEGMENTS(RING_SCATTER, world), list<world, RING_SCATTER>},
        {"RING_STAGED", world, RING_SEGMENTS(RING_STAGED, world), list<world, RING_STAGED>},
        {"RING_DIRECT", world, RING_SEGMENTS(RING_DIRECT, world), list<world, RING_DIRECT>},
    };
    bool good = true;
    for (const struct ring &ring : rings) {
        good = check_ring(ring) && good;
    }
    return good;
}

int main()
{
    const bool good[] = {check_world<2>(), check_world<3>(), check_world<4>(), check_world<5>(),
                         check_world<6>(), check_world<7>(), check_world<8>()};
    for (bool one : good) {
        if (!one) {
            return 1;
        }
    }
    return 0;
}
