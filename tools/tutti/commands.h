/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the verbs of the command `tutti`, each in a file of its own name. */
#ifndef TUTTI_TOOL_COMMANDS_H
#define TUTTI_TOOL_COMMANDS_H

/* Each verb's main. argv[0] is the verb itself ("run"), its options follow. Returns the exit code: 0 only if
 * everything asked for was done and every check held, 1 if not, 2 for a mistake on the command line. */
int run_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int info_main(int argc, char **argv);

#define EXIT_CODE_OK 0
#define EXIT_CODE_FAILED 1
#define EXIT_CODE_USAGE 2

#endif
