/* SPDX-License-Identifier: Apache-2.0 */
#include "compute.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compute_gpu.h"
#include "compute_host.h"

bool compute_knows(const char *backend)
{
    return strcmp(backend, "host") == 0 || strcmp(backend, "cuda") == 0;
}

struct compute *compute_open(const char *backend, int device, char *why, size_t why_bytes)
{
    if (strcmp(backend, "host") == 0) {
        return compute_host_open(why, why_bytes);
    }
    return compute_gpu_open(backend, device, why, why_bytes);
}

void compute_close(struct compute *compute)
{
    if (compute != NULL) {
        compute->ops->close(compute);
    }
}

tutti_status compute_note(struct compute *compute, tutti_status status)
{
    if (status != TUTTI_OK) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "%s", tutti_last_error());
    }
    return status;
}

/* In the child: opens a computer as a rank will. */
static void survey_answer(const char *backend, struct compute_survey *survey)
{
    struct compute *compute = compute_open(backend, 0, survey->why, sizeof(survey->why));
    if (compute != NULL && !compute_gpu_describe(survey)) {
        (void)snprintf(survey->why, sizeof(survey->why), "%s", compute->sentence);
    }
    /* No close: the process ends here, and whoever dislikes that ends it alone. */
}

bool compute_survey(const char *backend, struct compute_survey *survey)
{
    int ends[2];
    *survey = (struct compute_survey){.why = "asking the device for its name ended badly"};
    if (pipe(ends) != 0) {
        (void)snprintf(survey->why, sizeof(survey->why), "pipe: no descriptors are left");
        return false;
    }
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        survey->why[0] = '\0';
        survey_answer(backend, survey);
        (void)!write(ends[1], survey, sizeof(*survey));
        _exit(0);
    }
    (void)close(ends[1]);
    struct compute_survey heard;
    if (child > 0 && read(ends[0], &heard, sizeof(heard)) == (ssize_t)sizeof(heard)) {
        *survey = heard;
    }
    (void)close(ends[0]);
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
    return survey->why[0] == '\0';
}
