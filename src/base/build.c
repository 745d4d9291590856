/* SPDX-License-Identifier: Apache-2.0 */
#include "base/build.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tutti/tutti.h"

#define TEXT_OF(number) #number
#define VERSION_OF(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

static char text[BUILD_TEXT_BYTES];
static pthread_once_t text_once = PTHREAD_ONCE_INIT;

const char *tutti_version(void)
{
    return VERSION_OF(TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
}

/* Appends the build identity that a note segment holds, if it does. */
static void note_read(const char *note, size_t bytes)
{
    ElfW(Nhdr) header;
    while (bytes >= sizeof(header)) {
        memcpy(&header, note, sizeof(header));
        size_t name_bytes = (header.n_namesz + 3u) & ~(size_t)3;
        size_t value_bytes = (header.n_descsz + 3u) & ~(size_t)3;
        size_t whole = sizeof(header) + name_bytes + value_bytes;
        if (whole > bytes) {
            return;
        }
        const char *name = note + sizeof(header);
        if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
            size_t used = (size_t)snprintf(text, sizeof(text), "%s build ", tutti_version());
            for (size_t index = 0; index < header.n_descsz && used + 2 < sizeof(text); index++, used += 2) {
                (void)snprintf(text + used, sizeof(text) - used, "%02x",
                               (unsigned)(unsigned char)name[name_bytes + index]);
            }
            return;
        }
        note += whole;
        bytes -= whole;
    }
}

/* Finds the loaded object that holds this very code. */
static int object_visit(struct dl_phdr_info *object, size_t info_bytes, void *user)
{
    (void)info_bytes;
    (void)user;
    ElfW(Addr) here = (ElfW(Addr))(uintptr_t)text;
    bool ours = false;
    for (int index = 0; index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[index];
        ElfW(Addr) start = object->dlpi_addr + part->p_vaddr;
        ours = ours || (part->p_type == PT_LOAD && here >= start && here - start < part->p_memsz);
    }
    for (int index = 0; ours && index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[index];
        if (part->p_type == PT_NOTE) {
            /* An address that the loader states as a number. */
            note_read((const char *)(uintptr_t)(object->dlpi_addr + part->p_vaddr), part->p_memsz);
        }
    }
    return ours;
}

static void text_make(void)
{
    (void)snprintf(text, sizeof(text), "%s", tutti_version());
    (void)dl_iterate_phdr(object_visit, NULL);
}

const char *build_text(void)
{
    (void)pthread_once(&text_once, text_make);
    return text;
}
