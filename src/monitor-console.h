/* The interactive monitor: a line editor with history and completion, or lines from a pipe. MAIN. */
#ifndef PTA_MONITOR_CONSOLE_H
#define PTA_MONITOR_CONSOLE_H

#include "qmp/client-schema.h"
#include "qmp/client.h"

typedef struct PtaConsole PtaConsole;

/* The client's events are to be handed to pta_console_event() with the console as opaque. */
PtaConsole *pta_console_new(bool json);
void pta_console_free(PtaConsole *console);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaConsole, pta_console_free)

void pta_console_event(void *console, const json_t *event);

/* Until the end of input; the exit status: 0, 1 if input was no terminal and a command was refused,
 * 2 if the connection broke. schema may be NULL. */
int pta_console_run(PtaConsole *console, PtaClient *client, const PtaClientSchema *schema);

/* Runs one command of words and prints what it returns: 0, 1 (refused), 2 (connection). */
int pta_console_execute(PtaClient *client, const PtaClientSchema *schema, bool json,
                        const char *const *words);

#endif
