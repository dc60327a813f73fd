/*
 * Breakpoints of the debugger. A software breakpoint is an INT3 in guest memory, kept by the
 * guest-physical address that its virtual one had when it was set: so it is found, hidden from what
 * the debugger reads, and taken out again whatever the guest does to its page tables. Hardware
 * breakpoints and watchpoints are debug registers beside the guest's own. MAIN.
 */
#ifndef PTA_GDB_BREAK_H
#define PTA_GDB_BREAK_H

#include "src/memory/memory.h"
#include "src/partition/backend.h"

/* As in the packets Z0 to Z4. */
typedef enum PtaGdbBreakType {
    PTA_GDB_SOFTWARE,
    PTA_GDB_HARDWARE,
    PTA_GDB_WATCH_WRITE,
    PTA_GDB_WATCH_READ,
    PTA_GDB_WATCH_ACCESS,
} PtaGdbBreakType;

#define PTA_GDB_MAX_SOFTWARE 1024u
#define PTA_GDB_MAX_HARDWARE 4u

typedef struct PtaGdbSoftware {
    uint64_t lin; /* or guest-physical, if it was set so */
    uint64_t gpa;
    uint8_t original;
} PtaGdbSoftware;

typedef struct PtaGdbHardware {
    PtaGdbBreakType type;
    uint64_t lin;
    uint64_t len;
    uint8_t slots; /* bit mask of debug registers */
} PtaGdbHardware;

/* Zero-initialise, and set memory. */
typedef struct PtaGdbBreaks {
    PtaMemory *memory;
    unsigned n_software, n_hardware;
    PtaGdbSoftware software[PTA_GDB_MAX_SOFTWARE];
    PtaGdbHardware hardware[PTA_GDB_MAX_HARDWARE];
    uint64_t dr[4];
    uint64_t dr7;
} PtaGdbBreaks;

/* All of these: 0 or an errno. Setting what is set, and removing what is not, does nothing. */
int pta_gdb_software_add(PtaGdbBreaks *b, uint64_t lin, uint64_t gpa);
int pta_gdb_software_remove(PtaGdbBreaks *b, uint64_t lin);
int pta_gdb_hardware_add(PtaGdbBreaks *b, PtaGdbBreakType type, uint64_t lin, uint64_t len);
int pta_gdb_hardware_remove(PtaGdbBreaks *b, PtaGdbBreakType type, uint64_t lin, uint64_t len);
void pta_gdb_breaks_clear(PtaGdbBreaks *b);

bool pta_gdb_software_at(const PtaGdbBreaks *b, uint64_t gpa);

/* RAM as it would be without software breakpoints. */
PtaMemStatus pta_gdb_memory_read(const PtaGdbBreaks *b, uint64_t gpa, uint8_t *buf, size_t len);
PtaMemStatus pta_gdb_memory_write(PtaGdbBreaks *b, uint64_t gpa, const uint8_t *buf, size_t len);

/* The breakpoint that DR6 tells of, or NULL. */
const PtaGdbHardware *pta_gdb_hardware_hit(const PtaGdbBreaks *b, uint64_t dr6);

/* What a VP has to be told; single_step is left alone. */
void pta_gdb_breaks_fill(const PtaGdbBreaks *b, PtaGuestDebug *debug);

#endif
