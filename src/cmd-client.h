/* What the subcommands that talk to a monitor share. MAIN. */
#ifndef PTA_CMD_CLIENT_H
#define PTA_CMD_CLIENT_H

#include "src/util/util.h"

/* Exit statuses: done; refused by the server or the schema; wrong usage or no connection. */
enum { PTA_CLIENT_STATUS_OK, PTA_CLIENT_STATUS_REFUSED, PTA_CLIENT_STATUS_FAILED };

/* Says what went wrong, and returns the exit status for it. */
int pta_client_report(const GError *error);

/* Reads the options and --help. False after the latter (status 0) or a complaint. *words is what is
 * left, without argv[0]: the socket, and more. */
bool pta_client_options(char **argv, const char *parameters, const char *summary,
                        const char *description, const GOptionEntry *entries, char ***words,
                        int *status);

#endif
