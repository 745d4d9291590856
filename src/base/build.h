/* SPDX-License-Identifier: Apache-2.0 */
/* build.h - which build of the library this is. */
#ifndef TUTTI_BASE_BUILD_H
#define TUTTI_BASE_BUILD_H

#define BUILD_TEXT_BYTES 64

/* "0.1.0" and, where the linker left one, the build's identity: "0.1.0 build 5f0c...". Ranks share memory
 * whose layout only the same build is sure to agree on. Static storage. Any thread. */
const char *build_text(void);

#endif
