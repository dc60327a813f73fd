/*
 * UNIX stream sockets to listen on. Any thread.
 */
#ifndef PTA_SOCKET_H
#define PTA_SOCKET_H

#include "src/util/util.h"

/*
 * A socket bound to path, mode 0600, not blocking, on which nobody can connect before listen(); -1 and
 * *error (HOST) if that is not possible. A socket that nobody listens on any more is replaced; anything
 * else that is there is an error, as is a path that is too long for an address.
 */
int pta_unix_bind(const char *path, GError **error);

#endif
