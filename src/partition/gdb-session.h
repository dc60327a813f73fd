/*
 * A debugger's session, without the socket: bytes in, bytes out. The files gdb-*.c share it; the
 * server (gdb-server.c) and tests use its functions.
 *
 * All-stop: VPs are threads 1 to n; whenever one of them stops, all of them do. While it is attached
 * the debugger alone hears of halts (A1.7 of the partition's rules). MAIN.
 */
#ifndef PTA_GDB_SESSION_H
#define PTA_GDB_SESSION_H

#include "src/partition/gdb-break.h"
#include "src/partition/gdb-packet.h"
#include "src/partition/gdb.h"

typedef struct PtaGdbSession PtaGdbSession;
typedef struct PtaGdbReset PtaGdbReset;

typedef enum PtaGdbState {
    PTA_GDB_STARTING, /* attached; the VPs are not out yet */
    PTA_GDB_STOPPED,
    PTA_GDB_RUNNING,
    PTA_GDB_RESETTING, /* the machine is being reset */
    PTA_GDB_ENDED,     /* detached or killed: say goodbye and hang up */
} PtaGdbState;

typedef enum PtaGdbAction {
    PTA_GDB_SUSPEND,
    PTA_GDB_CONTINUE,
    PTA_GDB_STEP,
} PtaGdbAction;

/* Single-stepping goes on within a range (vCont;r). */
typedef struct PtaGdbPlan {
    PtaGdbAction action;
    uint64_t range_start, range_end;
} PtaGdbPlan;

/* Bits of qqemu.sstep: how a single step goes. */
enum {
    PTA_GDB_STEP_ENABLE = 1,
    PTA_GDB_STEP_NOIRQ = 2, /* no interrupt is taken during the step */
    PTA_GDB_STEP_NOTIMER = 4,
};

struct PtaGdbSession {
    const PtaGdbEnv *env;
    unsigned n_vps;
    PtaGdbState state;
    bool breaking;  /* it wants to hear of a DEBUG_BREAK */
    bool detaching; /* and no longer of any stop */
    bool killing;   /* nor does anybody else: the machine ends */
    bool no_ack;
    bool swbreak, hwbreak; /* it understands these stop reasons */
    bool physical;         /* addresses are guest-physical */
    unsigned step_flags;
    unsigned vp;        /* registers and memory are those of this one (Hg) */
    int resume_vp;      /* for c and s (Hc); -1: all */
    PtaHaltReason stop; /* why it is stopped */
    PtaGdbReset *reset; /* under way, or NULL */
    PtaGdbPlan plan[PTA_MAX_VPS];
    PtaGdbBreaks breaks;
    PtaX86State *cpu; /* scratch */
    GString *stop_reply;
    GByteArray *out;  /* waits to be sent */
    GByteArray *last; /* the last packet, if it has to be sent again */
    void (*on_output)(void *opaque);
    void *opaque;
    PtaGdbReader reader;
};

/* Attaches to the partition and stops it. on_output is called whenever something happened outside of
 * pta_gdb_session_feed(): there is output, or it takes input again. BAD_STATE: another debugger. */
PtaGdbSession *pta_gdb_session_new(const PtaGdbEnv *env, void (*on_output)(void *opaque),
                                   void *opaque, GError **error);
/* Detaches, if that has not been done: breakpoints go, and so does a stop on the debugger's behalf;
 * any other halt is handed over. */
void pta_gdb_session_free(PtaGdbSession *s);

/* Takes bytes while there is room for answers and says how many. */
size_t pta_gdb_session_feed(PtaGdbSession *s, const void *bytes, size_t len);
bool pta_gdb_session_takes_input(const PtaGdbSession *s);

/* ---- among the files of the session ---- */

void pta_gdb_reply(PtaGdbSession *s, const char *payload, size_t len);
void pta_gdb_reply_text(PtaGdbSession *s, const char *text);
void pta_gdb_reply_errno(PtaGdbSession *s, int error);  /* "E0e" */
void pta_gdb_say(PtaGdbSession *s, const char *text);   /* to its user; gdb-query.c */
void pta_gdb_reply_result(PtaGdbSession *s, int error); /* "OK" or the error */

/* gdb-command.c: one packet. */
void pta_gdb_command(PtaGdbSession *s, const char *packet, size_t len);
/* gdb-query.c: those that begin with q or Q. */
void pta_gdb_query(PtaGdbSession *s, const char *packet);

/* Fills s->cpu with the state of a VP. */
const PtaX86State *pta_gdb_load(PtaGdbSession *s, unsigned vp);
/* Guest memory of the current VP; how many bytes before the first that is not there. */
size_t pta_gdb_read_memory(PtaGdbSession *s, uint64_t addr, uint8_t *buf, size_t len);
/* All or nothing: 0 or an errno. */
int pta_gdb_write_memory(PtaGdbSession *s, uint64_t addr, const uint8_t *buf, size_t len);
/* False: not mapped. */
bool pta_gdb_translate(PtaGdbSession *s, uint64_t addr, uint64_t *gpa);

/* A thread id of a packet, at *text, which is skipped: 0 is any, -1 all, else VP + 1. False: bad. */
bool pta_gdb_get_thread(const PtaGdbSession *s, const char **text, int *thread);

/* Carries out the plan; the answer comes with the next stop. */
void pta_gdb_go(PtaGdbSession *s);
void pta_gdb_detach(PtaGdbSession *s);
void pta_gdb_kill(PtaGdbSession *s);
/* Goes on afterwards by the plan, or waits at the first instruction. */
void pta_gdb_reset_machine(PtaGdbSession *s, bool goes_on);

#endif
