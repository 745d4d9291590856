/* SPDX-License-Identifier: Apache-2.0 */
/* token.h - 128-bit values by which ranks know each other and jobs are told apart. */
#ifndef TUTTI_COMM_TOKEN_H
#define TUTTI_COMM_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#define TOKEN_BYTES 16
#define TOKEN_TEXT_BYTES (2 * TOKEN_BYTES + 1)

/* In a time that does not depend on where they differ. */
bool token_equal(const uint8_t a[TOKEN_BYTES], const uint8_t b[TOKEN_BYTES]);

/* 32 hex digits and nothing else; false otherwise. */
bool token_parse(const char *text, uint8_t token[TOKEN_BYTES]);

void token_print(const uint8_t token[TOKEN_BYTES], char text[TOKEN_TEXT_BYTES]);

/* Spreads a text over a token, so that different texts give different tokens. Tells jobs apart; whoever can guess the
 * text can make the token. */
void token_derive(const char *text, uint8_t token[TOKEN_BYTES]);

#endif
