/*
 * Cuts a stream of bytes into JSON values, however the bytes arrive, and finds its way back after
 * anything that is not JSON.
 *
 * A message is a JSON value; between messages stands any white space, or nothing. Strings may stand
 * in single quotes as well, as in QEMU, for people who type. Refused, with one error each:
 *   - a message of more than PTA_JSON_STREAM_MAX_BYTES or with more than PTA_JSON_STREAM_MAX_DEPTH
 *     levels; the error comes as soon as the limit is passed;
 *   - a balanced value that is not JSON (also: a duplicate key, U+0000, bytes that are not UTF-8,
 *     integers beyond 63 bits);
 *   - brackets that do not match, control characters in a string, text outside a value.
 *
 * After an error the stream goes on with the next message, if what was refused has an end: the
 * closing bracket of what was balanced, or of what was too large or too deep. Text outside a value
 * is dropped up to the end of its line. Everywhere else, and for impatient clients, two signs mean
 * that a new message begins: a line whose first character is { or [ (an indented one, as it stands
 * inside of a message that was printed for people, is none: nothing in the middle of a refused
 * message shall be taken for a command), and the byte 0xFF, which is not UTF-8 and drops whatever
 * was there before it (QEMU's sign).
 */
#ifndef PTA_JSON_STREAM_H
#define PTA_JSON_STREAM_H

#include <jansson.h>

#include "src/util/util.h"

#define PTA_JSON_STREAM_MAX_BYTES ((size_t)PTA_MIB)
#define PTA_JSON_STREAM_MAX_DEPTH 64

typedef struct PtaJsonStream PtaJsonStream;

PtaJsonStream *pta_json_stream_new(void);
void pta_json_stream_free(PtaJsonStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaJsonStream, pta_json_stream_free)

/* In place of PTA_JSON_STREAM_MAX_BYTES: for a client, which trusts its server. */
void pta_json_stream_set_max_bytes(PtaJsonStream *stream, size_t max);

/* What a stretch of bytes ended in: nothing (both NULL), a value, or an error. */
typedef struct PtaJsonItem {
    json_t *value;   /* the caller's reference */
    char *error;     /* the caller's; a sentence for a person */
    bool is_jsonrpc; /* of an error: the refused text names "jsonrpc" */
} PtaJsonItem;

/* Takes bytes up to the end of the next item, at most len, and returns how many it took. */
size_t pta_json_stream_feed(PtaJsonStream *stream, const char *bytes, size_t len,
                            PtaJsonItem *item);

/* The stream has ended: what a message that was under way amounts to. */
void pta_json_stream_finish(PtaJsonStream *stream, PtaJsonItem *item);

#endif
