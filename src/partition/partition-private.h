/* What the files of the partition unit share, and nobody else includes. */
#ifndef PTA_PARTITION_PRIVATE_H
#define PTA_PARTITION_PRIVATE_H

#include "src/partition/partition.h"

/* How guards find a partition that may be gone. Reference-counted; MAIN reads and writes p. */
typedef struct PtaPartitionLink {
    PtaPartition *p; /* NULL once it was freed */
} PtaPartitionLink;

typedef struct PtaPartitionDebug {
    bool attached;
    bool reported;          /* it was told of the outstanding halt */
    PtaDebugHaltFn *notify; /* NULL: it does not wait for a halt */
    void *opaque;
} PtaPartitionDebug;

struct PtaPartition {
    PtaPartitionParams params;
    PtaCpuidTable cpuid;
    PtaBackend *be;
    PtaHalt *halt;
    PtaVpSet *vps;
    PtaPartitionLink *link;
    PtaMemoryAttachment *attachment; /* the memory that be sees */
    bool started;
    unsigned stop_count;        /* stop guards held */
    bool needs_reset;           /* VPs ran since registers were set */
    PtaHaltReason *halt_reason; /* outstanding */
    bool halt_told;             /* it went to on_halt, not only to a debugger */
    PtaX86State *initial;       /* what the last boot began with */
    GArray *initial_pages;      /* of PtaInitialPages */
    PtaPartitionDebug debug;
};

/* VPs start if nothing holds them; they stop whatever does. */
void partition_start_vps(PtaPartition *p);
void partition_stop_vps(PtaPartition *p);
/* Takes all halts that wait. */
void partition_take_halts(PtaPartition *p);
/* The outstanding halt to on_halt, which may end it. */
void partition_report_halt(PtaPartition *p);
/* Forgets the outstanding halt; whether there was one. VPs are not started. */
bool partition_forget_halt(PtaPartition *p);
/* The code around a triple fault, into the reason. RAM is as it was then. */
void partition_describe_halt(PtaPartition *p, PtaHaltReason *reason);

/* partition-cpu.c. identity NULL: the back end's own. */
bool partition_build_cpu(PtaPartition *p, const PtaX86Identity *identity, uint64_t tsc_hz,
                         PtaCpuidTable *table, GError **error);
json_t *partition_save_cpu(PtaPartition *p);
/* The guest sees what it saw, or BAD_SNAPSHOT, UNSUPPORTED, HOST, and nothing has changed. */
bool partition_restore_cpu(PtaPartition *p, json_t *saved, GError **error);

/* partition-debug.c: whether a debugger took it. */
bool partition_report_to_debugger(PtaPartition *p, const PtaHaltReason *reason);
/* What follows from a reset or a restore for a debugger that was told of a halt and has not said "go on":
 * it still holds the VPs, now by a DEBUG_BREAK. False: none does. */
bool partition_hold_for_debugger(PtaPartition *p);

#endif
