/*
 * A stub of the GDB remote protocol: listens on a UNIX or a loopback TCP socket and serves one
 * debugger at a time. docs/design/gdb.md says what is where. MAIN.
 */
#ifndef PTA_GDB_H
#define PTA_GDB_H

#include "src/memory/memory.h"
#include "src/partition/partition.h"

typedef void PtaGdbResetDone(void *data, const GError *error);

/* What a debugger works on, and what it may ask of the machine. All of it lent. */
typedef struct PtaGdbEnv {
    PtaPartition *partition;
    PtaMemory *memory;
    /* It said "go on": a machine that waits to be started is started. */
    void (*go)(void *opaque);
    void (*kill)(void *opaque);
    /* Resets the machine, while the debugger holds the partition, and says so, now or later. */
    void (*reset)(void *opaque, PtaGdbResetDone *done, void *data);
    void *opaque;
} PtaGdbEnv;

typedef struct PtaGdb PtaGdb;

PtaGdb *pta_gdb_new(const PtaGdbEnv *env);
void pta_gdb_free(PtaGdb *gdb);

/* Listens at path (mode 0600; a socket that nobody listens on is replaced), or on TCP: host is NULL,
 * "localhost", or an address of the loopback network; port 0 is any free one. HOST, BAD_STATE: it
 * listens already. */
bool pta_gdb_listen_unix(PtaGdb *gdb, const char *path, GError **error);
bool pta_gdb_listen_tcp(PtaGdb *gdb, const char *host, uint16_t port, GError **error);
/* "unix:PATH" or "tcp:[HOST]:[PORT]"; relative paths start from base_dir. BAD_DESCRIPTION as well. */
bool pta_gdb_listen(PtaGdb *gdb, const char *device, const char *base_dir, GError **error);
/* Hangs up on a debugger and listens no more. */
void pta_gdb_close(PtaGdb *gdb);

/* For inspect. */
typedef struct PtaGdbInfo {
    const char *device; /* where it listens, as pta_gdb_listen() takes it; NULL: nowhere. Lent. */
    bool attached;      /* a debugger is there */
    bool stopped;       /* the machine is stopped on its behalf, or told it of a halt */
    unsigned n_software, n_hardware;
    uint64_t sessions; /* that there have been */
} PtaGdbInfo;
void pta_gdb_info(const PtaGdb *gdb, PtaGdbInfo *info);

#endif
