/* Addresses of the socket back ends: from the description, and as text. */
#ifndef PTA_NET_ADDRESS_H
#define PTA_NET_ADDRESS_H

#include <sys/socket.h>

#include "src/util/util.h"

struct NetAddress; /* qmp/gen/types.h */

typedef struct PtaNetAddress {
    struct sockaddr_storage sa;
    socklen_t len;
    char *path; /* of a UNIX socket, else NULL */
    char *text; /* "unix:PATH", "HOST:PORT" */
} PtaNetAddress;

/* May look a name up. BAD_DESCRIPTION, HOST. */
bool pta_net_address_init(PtaNetAddress *a, const struct NetAddress *config, const char *base_dir,
                          GError **error);
void pta_net_address_clear(PtaNetAddress *a);

/* A socket that is bound there, not blocking; -1 if that failed. A stale UNIX socket is replaced. */
int pta_net_address_bind(const PtaNetAddress *a, int type, GError **error);

/* As pta_net_address.text. New. */
char *pta_net_address_text(const struct sockaddr_storage *sa, socklen_t len);

#endif
