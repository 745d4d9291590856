/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/token.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

bool token_equal(const uint8_t a[TOKEN_BYTES], const uint8_t b[TOKEN_BYTES])
{
    volatile uint8_t difference = 0;
    for (size_t index = 0; index < TOKEN_BYTES; index++) {
        difference = (uint8_t)(difference | (a[index] ^ b[index]));
    }
    return difference == 0;
}

static int digit_value(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = strchr(digits, digit >= 'A' && digit <= 'F' ? digit + ('a' - 'A') : digit);
    return digit != 0 && found != NULL ? (int)(found - digits) : -1;
}

bool token_parse(const char *text, uint8_t token[TOKEN_BYTES])
{
    if (strlen(text) != 2 * TOKEN_BYTES) {
        return false;
    }
    uint8_t parsed[TOKEN_BYTES];
    for (size_t index = 0; index < TOKEN_BYTES; index++) {
        int high = digit_value(text[2 * index]);
        int low = digit_value(text[2 * index + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        parsed[index] = (uint8_t)(high * 16 + low);
    }
    memcpy(token, parsed, sizeof(parsed));
    return true;
}

void token_print(const uint8_t token[TOKEN_BYTES], char text[TOKEN_TEXT_BYTES])
{
    for (size_t index = 0; index < TOKEN_BYTES; index++) {
        (void)snprintf(text + 2 * index, 3, "%02x", (unsigned)token[index]);
    }
}

void token_derive(const char *text, uint8_t token[TOKEN_BYTES])
{
    /* Two lanes of FNV-1a (Fowler, Noll, Vo) from different starts, each finished by a mixer. */
    uint64_t lanes[2] = {0xcbf29ce484222325u, 0x9ae16a3b2f90404fu};
    for (size_t lane = 0; lane < 2; lane++) {
        uint64_t hash = lanes[lane];
        for (const char *at = text; *at != 0; at++) {
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
        }
        hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
        hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
        hash ^= hash >> 32;
        memcpy(token + 8 * lane, &hash, sizeof(hash));
    }
}
