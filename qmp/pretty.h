/* JSON for people: tables and indented members. Any thread. */
#ifndef PTA_PRETTY_H
#define PTA_PRETTY_H

#include <jansson.h>

#include "src/util/util.h"

/*
 * Text with a line end, or "" for an empty object: what a command returned that returns nothing. A
 * list of flat objects becomes a table, another list one line an element, an object one line a
 * member with nested ones indented; null is "-" ("…" if tree: a directory that was not opened), and
 * {"$error": TEXT} "(TEXT)", a counter of inspect its number, and its rate in brackets. Control characters are
 * shown as \xNN, for they may come from a guest; a string alone keeps line ends and tabs.
 */
char *pta_pretty(const json_t *value, bool tree);

/* An event in one line: time, name, data, number. */
char *pta_pretty_event(const json_t *event);

#endif
