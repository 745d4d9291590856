/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explore.cpp - runs thousands of schedules of the protocol kernels, or looks for the seed that catches a mutant.
 *
 *     explore FAMILY|all [--seeds N] [--first SEED] [--world W] [--warp 32|64] [--mutant NAME] [--verbose]
 *     explore mutants
 *
 * Without a mutant: exit 1 at the first seed that fails. With one: exit 0 as soon as a seed fails, 1 if none does.
 * `mutants`: every mutant must be caught by each family that can catch it. TUTTI_TEST_EFFORT says how many seeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern "C" {
#include "harness/effort.h"
}
#include "simgpu/scenario.h"

using namespace simgpu;

struct plan {
    uint32_t family; /* FAMILY_COUNT: all */
    uint64_t first, seeds;
    uint32_t world, warp, mutant; /* world and warp: 0 is any */
    bool verbose;
};

static double now_s()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint32_t find_name(const char *name, const char *(*name_of)(uint32_t), uint32_t count)
{
    for (uint32_t at = 0; at < count; at++) {
        if (strcmp(name, name_of(at)) == 0) {
            return at;
        }
    }
    return count;
}

static void report(const struct plan &plan, const struct scenario &scenario, const std::string &trouble)
{
    printf("%s seed %llu: %s\n", family_name(scenario.family), (unsigned long long)scenario.seed, trouble.c_str());
    scenario_print(scenario);
    printf("  again: explore %s --first %llu --seeds 1 --world %u --warp %u --mutant %s --verbose\n",
           family_name(scenario.family), (unsigned long long)scenario.seed, plan.world, scenario.machine.warp,
           mutant_name(plan.mutant));
}

/* True if a seed failed. */
static bool explore(const struct plan &plan, struct machine &machine, uint32_t family)
{
    double begin = now_s();
    uint64_t steps = 0;
    for (uint64_t seed = plan.first; seed < plan.first + plan.seeds; seed++) {
        uint32_t warp = plan.warp != 0 ? plan.warp : seed % 2 == 0 ? 32 : 64;
        struct scenario scenario = scenario_draw(seed, family, plan.world, warp, plan.mutant);
        if (plan.verbose) {
            scenario_print(scenario);
        }
        std::string trouble = scenario_run(machine, scenario);
        steps += machine.steps;
        if (!trouble.empty()) {
            if (plan.mutant == MUTANT_NONE) {
                report(plan, scenario, trouble);
            } else {
                printf("%s: caught by %s, seed %llu (%.2f s): %s\n", mutant_name(plan.mutant), family_name(family),
                       (unsigned long long)seed, now_s() - begin, trouble.c_str());
            }
            return true;
        }
    }
    double seconds = now_s() - begin;
    printf(
        "%s: %llu seeds, %llu steps, %.2f s, %.0f seeds/s%s%s\n", family_name(family), (unsigned long long)plan.seeds,
        (unsigned long long)steps, seconds, (double)plan.seeds / seconds,
        plan.mutant == MUTANT_NONE ? "" : ", not caught: ", plan.mutant == MUTANT_NONE ? "" : mutant_name(plan.mutant));
    return false;
}

struct hunt {
    uint32_t mutant, family;
    uint64_t seeds; /* that surely suffice */
    uint64_t first; /* where the search begins: 1, or shortly before a seed that caught it, where that takes seconds */
};

/* Seeds: ten times what was needed, or more. */
static const struct hunt hunts[] = {
    {MUTANT_SINGLE_BUFFER, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_TWO_SHOT, 1000, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_REDUCE_SCATTER, 500, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_COPIES, 200, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_WORDS, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_REDUCE_SCATTER, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_COPIES, 100, 1},
    {MUTANT_MISSING_RESET, FAMILY_WORDS, 500, 1},
    {MUTANT_WEAK_RESET, FAMILY_ONE_SHOT, 2000, 1},
    {MUTANT_WEAK_RESET, FAMILY_TWO_SHOT, 5000, 650},
    {MUTANT_WEAK_RESET, FAMILY_REDUCE_SCATTER, 2000, 1},
    {MUTANT_WEAK_RESET, FAMILY_COPIES, 2000, 80},
    {MUTANT_WEAK_RESET, FAMILY_WORDS, 20000, 1},
    {MUTANT_WEAK_STORES, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_WEAK_STORES, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_WEAK_STORES, FAMILY_COPIES, 200, 1},
    {MUTANT_WEAK_STORES, FAMILY_WORDS, 500, 1},
    {MUTANT_SENTINEL_SENT, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_SENTINEL_SENT, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_SENTINEL_SENT, FAMILY_REDUCE_SCATTER, 500, 1},
    {MUTANT_FIRST_WORD_CHECKED, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_FIRST_WORD_CHECKED, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_FIRST_WORD_CHECKED, FAMILY_REDUCE_SCATTER, 500, 1},
    {MUTANT_FIRST_WORD_CHECKED, FAMILY_COPIES, 100, 1},
    {MUTANT_TORN_PAIRS, FAMILY_WORDS, 500, 1},
    {MUTANT_MISSING_BARRIER, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_MISSING_BARRIER, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_MISSING_BARRIER, FAMILY_REDUCE_SCATTER, 500, 1},
    {MUTANT_EPOCH_BY_ONE_BLOCK, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_EPOCH_BY_ONE_BLOCK, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_EPOCH_BY_ONE_BLOCK, FAMILY_COPIES, 400, 1},
    {MUTANT_EPOCH_BY_ONE_BLOCK, FAMILY_WORDS, 500, 1},
    {MUTANT_EPOCH_WITHOUT_OTHERS, FAMILY_MIXED, 200, 1},
    {MUTANT_EPOCH_AT_ONCE, FAMILY_ONE_SHOT, 500, 1},
    {MUTANT_EPOCH_AT_ONCE, FAMILY_TWO_SHOT, 500, 1},
    {MUTANT_EPOCH_AT_ONCE, FAMILY_WORDS, 500, 1},
    {MUTANT_NO_PREDECESSOR_WAIT, FAMILY_PROGRAMMATIC, 500, 1},
    {MUTANT_NO_PREDECESSOR_WAIT, FAMILY_FOREIGN, 500, 1},
    {MUTANT_EPOCH_FROM_ENDED, FAMILY_FOREIGN, 500, 1},
    {MUTANT_WEAK_COUNTER, FAMILY_FOREIGN, 3000, 1},
    {MUTANT_SUCCESSOR_AT_ONCE, FAMILY_LANES, 5000, 470},
    {MUTANT_MISSING_RELEASE, FAMILY_ABSENT, 500, 1},
    {MUTANT_MISSING_RELEASE, FAMILY_DIRECT, 2000, 1},
    {MUTANT_MISSING_FENCE, FAMILY_DIRECT, 5000, 1},
    {MUTANT_MISSING_BARRIER, FAMILY_DIRECT, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_DIRECT, 500, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_DIRECT, 5000, 1},
    {MUTANT_EPOCH_AT_ONCE, FAMILY_DIRECT, 500, 1},
    {MUTANT_MISSING_FENCE, FAMILY_DIRECT_SCATTER, 2000, 1},
    {MUTANT_MISSING_RELEASE, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_MISSING_BARRIER, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_MISSING_RESET, FAMILY_DIRECT_GATHER, 100, 1},
    {MUTANT_SINGLE_BUFFER, FAMILY_DIRECT_GATHER, 200, 1},
    {MUTANT_EACH_LOOKS, FAMILY_DIRECT, 500, 1},
    {MUTANT_EACH_LOOKS, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_EACH_LOOKS, FAMILY_DIRECT_GATHER, 100, 1},
    {MUTANT_TICKET_IGNORED, FAMILY_DIRECT, 500, 1},
    {MUTANT_TICKET_IGNORED, FAMILY_DIRECT_SCATTER, 1500, 1},
    {MUTANT_TICKET_IGNORED, FAMILY_DIRECT_GATHER, 600, 90},
    {MUTANT_COMMIT_FIRST, FAMILY_DIRECT, 600, 1},
    {MUTANT_COMMIT_FIRST, FAMILY_DIRECT_SCATTER, 1500, 1},
    {MUTANT_COMMIT_FIRST, FAMILY_DIRECT_GATHER, 200, 1},
    {MUTANT_COMMIT_RELAXED, FAMILY_DIRECT, 5000, 1940},
    {MUTANT_COMMIT_RELAXED, FAMILY_DIRECT_SCATTER, 5000, 720},
    {MUTANT_NO_DONE, FAMILY_DIRECT, 200, 1},
    {MUTANT_NO_DONE, FAMILY_DIRECT_SCATTER, 500, 1},
    {MUTANT_NO_DONE, FAMILY_DIRECT_GATHER, 100, 1},
    {MUTANT_DONE_RELAXED, FAMILY_DIRECT, 200, 1},
    {MUTANT_DONE_RELAXED, FAMILY_DIRECT_GATHER, 1500, 1690},
    {MUTANT_PEER_IGNORED, FAMILY_DIRECT, 200, 1},
    {MUTANT_PEER_IGNORED, FAMILY_DIRECT_SCATTER, 200, 1},
    {MUTANT_PEER_IGNORED, FAMILY_DIRECT_GATHER, 100, 1},
    {MUTANT_DEAF_TO_TIME, FAMILY_ABSENT, 200, 1},
    {MUTANT_DEAF_TO_ABORT, FAMILY_ABORTED, 200, 1},
};

/* How many mutants survived. */
static int hunt_all(struct machine &machine)
{
    int survivors = 0;
    for (const struct hunt &hunt : hunts) {
        uint64_t first = effort() == EFFORT_LONG ? 1 : hunt.first;
        struct plan plan = {hunt.family, first, hunt.seeds, 0, 0, hunt.mutant, false};
        survivors += !explore(plan, machine, hunt.family);
    }
    printf("%d mutants of %zu survived\n", survivors, sizeof(hunts) / sizeof(hunts[0]));
    return survivors;
}

/* Seeds for a family, unless the command says how many: some seconds in all. */
static uint64_t seeds_for(uint32_t family)
{
    static const uint64_t normal[FAMILY_COUNT] = {1500, 500, 1500, 600, 1000, 150, 80, 4000,
                                                  800,  500, 400,  200, 600,  600, 800};
    uint64_t seeds = normal[family];
    return effort() == EFFORT_QUICK ? seeds / 10 : effort() == EFFORT_LONG ? seeds * 100 : seeds;
}

static int usage()
{
    fprintf(stderr,
            "usage: explore FAMILY|all|mutants [--seeds N] [--first SEED] [--world W] [--warp 32|64] [--mutant NAME] "
            "[--verbose]\nfamilies:");
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        fprintf(stderr, " %s", family_name(family));
    }
    fprintf(stderr, "\nmutants:");
    for (uint32_t mutant = 0; mutant < MUTANT_COUNT; mutant++) {
        fprintf(stderr, " %s", mutant_name(mutant));
    }
    fprintf(stderr, "\n");
    return 2;
}

static bool parse(int count, char **words, struct plan &plan)
{
    if (count < 2) {
        return false;
    }
    plan.family = find_name(words[1], family_name, FAMILY_COUNT);
    bool good = plan.family < FAMILY_COUNT || strcmp(words[1], "all") == 0 || strcmp(words[1], "mutants") == 0;
    for (int at = 2; at < count && good; at++) {
        if (strcmp(words[at], "--verbose") == 0) {
            plan.verbose = true;
            continue;
        }
        const char *value = at + 1 < count ? words[at + 1] : "";
        uint64_t number = strtoull(value, nullptr, 0);
        if (strcmp(words[at], "--seeds") == 0) {
            plan.seeds = number;
        } else if (strcmp(words[at], "--first") == 0) {
            plan.first = number;
        } else if (strcmp(words[at], "--world") == 0) {
            plan.world = (uint32_t)number;
        } else if (strcmp(words[at], "--warp") == 0) {
            plan.warp = (uint32_t)number;
        } else if (strcmp(words[at], "--mutant") == 0) {
            plan.mutant = find_name(value, mutant_name, MUTANT_COUNT);
        } else {
            good = false;
        }
        at++;
    }
    return good && plan.mutant < MUTANT_COUNT &&
           (plan.world == 0 || (plan.world >= 2 && plan.world <= KERNEL_WORLD_MAX));
}

int main(int count, char **words)
{
    struct plan plan = {FAMILY_COUNT, 1, 0, 0, 0, MUTANT_NONE, false};
    if (!parse(count, words, plan)) {
        return usage();
    }
    setvbuf(stdout, nullptr, _IOLBF, 0);
    struct machine *machine = machine_create();
    if (strcmp(words[1], "mutants") == 0) {
        int survivors = hunt_all(*machine);
        machine_destroy(machine);
        return survivors == 0 ? 0 : 1;
    }
    bool failed = false;
    for (uint32_t family = 0; family < FAMILY_COUNT && !failed; family++) {
        if (plan.family == FAMILY_COUNT || plan.family == family) {
            struct plan part = plan;
            part.seeds = plan.seeds != 0 ? plan.seeds : seeds_for(family);
            failed = explore(part, *machine, family);
        }
    }
    machine_destroy(machine);
    return failed == (plan.mutant != MUTANT_NONE) ? 0 : 1;
}
