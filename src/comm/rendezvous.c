/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/rendezvous.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/settings.h"

static tutti_status unix_place(const char *directory, struct rendezvous *rendezvous)
{
    struct stat stat_of;
    if (directory[0] == 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"unix:\" lacks a directory: unix:/dir");
    }
    if (stat(directory, &stat_of) != 0 || !S_ISDIR(stat_of.st_mode)) {
        return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"unix:%.100s\": there is no such directory", directory);
    }
    rendezvous->kind = RENDEZVOUS_ABSTRACT;
    (void)snprintf(rendezvous->name, sizeof(rendezvous->name), "tutti-dir-%u-%llx-%llx", (unsigned)geteuid(),
                   (unsigned long long)stat_of.st_dev, (unsigned long long)stat_of.st_ino);
    return TUTTI_OK;
}

static tutti_status tcp_token(const char *job, struct rendezvous *rendezvous)
{
    if (settings_given(SETTING_SESSION_TOKEN)) {
        if (!token_parse(settings_text(SETTING_SESSION_TOKEN), rendezvous->token)) {
            return error_set(TUTTI_ERR_ARGUMENT, "TUTTI_SESSION_TOKEN is not 32 hex digits");
        }
        return TUTTI_OK;
    }
    if (job[0] == 0) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "a tcp: rendezvous outside of a launcher's job needs TUTTI_SESSION_TOKEN: the "
                         "same 32 hex digits on all ranks (openssl rand -hex 16)");
    }
    token_derive(job, rendezvous->token);
    return TUTTI_OK;
}

/* host:port, with an IPv6 address in brackets. */
static tutti_status tcp_place(const char *address, const char *job, struct rendezvous *rendezvous)
{
    const char *host = address;
    const char *host_end = strrchr(address, ':');
    const char *port = host_end != NULL ? host_end + 1 : "";
    if (address[0] == '[') {
        host = address + 1;
        host_end = strchr(address, ']');
        port = host_end != NULL && host_end[1] == ':' ? host_end + 2 : "";
    }
    size_t digits = strspn(port, "0123456789");
    long number = digits > 0 && digits <= 5 && port[digits] == 0 ? strtol(port, NULL, 10) : 0;
    bool host_legal = host_end != NULL && host_end > host && (size_t)(host_end - host) < sizeof(rendezvous->host);
    if (!host_legal || number < 1 || number > 65535) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "rendezvous \"tcp:%.100s\" is not tcp:host:port with a port from 1 to 65535", address);
    }
    memcpy(rendezvous->host, host, (size_t)(host_end - host));
    rendezvous->host[host_end - host] = 0;
    (void)snprintf(rendezvous->port, sizeof(rendezvous->port), "%ld", number);
    rendezvous->kind = RENDEZVOUS_TCP;
    return tcp_token(job, rendezvous);
}

tutti_status rendezvous_place(const char *text, const char *job, struct rendezvous *rendezvous)
{
    (void)snprintf(rendezvous->text, sizeof(rendezvous->text), "%s", text);
    if (strncmp(text, "unix:", 5) == 0) {
        return unix_place(text + 5, rendezvous);
    }
    if (strncmp(text, "tcp:", 4) == 0) {
        return tcp_place(text + 4, job, rendezvous);
    }
    return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"%.100s\" is none of unix:/dir, tcp:host:port, env", text);
}

static tutti_status numbers_check(int rank, int world)
{
    if (world < 1 || world > TUTTI_WORLD_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "world %d is not from 1 to %d", world, TUTTI_WORLD_MAX);
    }
    if (rank < 0 || rank >= world) {
        return error_set(TUTTI_ERR_ARGUMENT, "rank %d is not from 0 to %d, of world %d", rank, world - 1, world);
    }
    return TUTTI_OK;
}

/* Options beside rendezvous "env" are allowed if they say the same. */
static tutti_status environment_check(const tutti_comm_options *options, const struct rendezvous *rendezvous)
{
    if (options->world != 0 && (options->world != rendezvous->world || options->rank != rendezvous->rank)) {
        return error_set(
            TUTTI_ERR_ARGUMENT,
            "the options say rank %d of %d, the environment says rank %d of %d (%s): leave rank and world of "
            "the options 0",
            options->rank, options->world, rendezvous->rank, rendezvous->world, rendezvous->text);
    }
    return numbers_check(rendezvous->rank, rendezvous->world);
}

tutti_status rendezvous_resolve(const tutti_comm_options *options, struct rendezvous *rendezvous)
{
    memset(rendezvous, 0, sizeof(*rendezvous));
    if (options->rendezvous != NULL && strcmp(options->rendezvous, "env") == 0) {
        tutti_status status = rendezvous_environment(rendezvous);
        return status == TUTTI_OK ? environment_check(options, rendezvous) : status;
    }
    rendezvous->rank = options->rank;
    rendezvous->world = options->world;
    tutti_status status = numbers_check(options->rank, options->world);
    if (status != TUTTI_OK) {
        return status;
    }
    if (options->rendezvous != NULL) {
        char job[RENDEZVOUS_TEXT_BYTES];
        rendezvous_job(job, sizeof(job));
        return rendezvous_place(options->rendezvous, job, rendezvous);
    }
    if (options->allgather != NULL) {
        rendezvous->kind = RENDEZVOUS_CALLBACK;
        rendezvous->allgather = options->allgather;
        rendezvous->allgather_user = options->allgather_user;
        return TUTTI_OK;
    }
    if (options->world > 1) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "rank %d of %d has no way to meet the others: give a rendezvous or an allgather",
                         options->rank, options->world);
    }
    return TUTTI_OK;
}

static tutti_status callback_meet(const struct rendezvous *rendezvous, const union hello_frame *mine,
                                  union hello_frame *all)
{
    int failed = rendezvous->allgather(rendezvous->allgather_user, mine->bytes, all, sizeof(*mine));
    if (failed != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "rank %d: the caller's allgather returned %d", rendezvous->rank, failed);
    }
    return TUTTI_OK;
}

tutti_status rendezvous_meet(const struct rendezvous *rendezvous, const union hello_frame *mine, union hello_frame *all,
                             struct deadline *deadline)
{
    tutti_status status = TUTTI_OK;
    if (rendezvous->kind == RENDEZVOUS_CALLBACK) {
        status = callback_meet(rendezvous, mine, all); /* with world 1 too: other ranks of the caller may take part */
    } else if (rendezvous->world == 1) {
        all[0] = *mine;
    } else if (rendezvous->rank == 0) {
        status = rendezvous_serve(rendezvous, mine, all, deadline);
    } else {
        status = rendezvous_join(rendezvous, mine, all, deadline);
    }
    for (int rank = 0; rank < rendezvous->world && status == TUTTI_OK; rank++) {
        hello_terminate(&all[rank].hello);
    }
    return status;
}
