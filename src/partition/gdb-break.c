/* Breakpoints of the debugger. MAIN. */
#include "config.h"

#include "src/partition/gdb-break.h"

#include <errno.h>
#include <string.h>

#define INT3 0xcc

/* DR7.RW of each type (SDM vol. 3, 17.2.4). x86 has no watchpoint for reads alone: gdb compares. */
static const uint8_t rw_of[] = {
    [PTA_GDB_HARDWARE] = 0,
    [PTA_GDB_WATCH_WRITE] = 1,
    [PTA_GDB_WATCH_READ] = 3,
    [PTA_GDB_WATCH_ACCESS] = 3,
};

/* ---- software ---- */

static PtaGdbSoftware *software_find(PtaGdbBreaks *b, uint64_t lin)
{
    for (unsigned i = 0; i < b->n_software; i++) {
        if (b->software[i].lin == lin) {
            return &b->software[i];
        }
    }
    return NULL;
}

static const PtaGdbSoftware *software_at(const PtaGdbBreaks *b, uint64_t gpa)
{
    for (unsigned i = 0; i < b->n_software; i++) {
        if (b->software[i].gpa == gpa) {
            return &b->software[i];
        }
    }
    return NULL;
}

bool pta_gdb_software_at(const PtaGdbBreaks *b, uint64_t gpa)
{
    return software_at(b, gpa) != NULL;
}

int pta_gdb_software_add(PtaGdbBreaks *b, uint64_t lin, uint64_t gpa)
{
    static const uint8_t int3 = INT3;
    PtaGdbSoftware *old = software_find(b, lin);
    if (old && old->gpa == gpa) {
        return 0;
    }
    if (old) { /* another page is there now */
        pta_gdb_software_remove(b, lin);
    }
    if (b->n_software == PTA_GDB_MAX_SOFTWARE) {
        return ENOSPC;
    }
    PtaGdbSoftware new = { .lin = lin, .gpa = gpa };
    if (pta_gdb_memory_read(b, gpa, &new.original, 1) != PTA_MEM_OK ||
        pta_memory_write(b->memory, gpa, &int3, 1) != PTA_MEM_OK) {
        return EFAULT;
    }
    b->software[b->n_software++] = new;
    return 0;
}

/* Puts the original back, unless another breakpoint wants its INT3 there or the guest has written
 * something else. */
static void restore(PtaGdbBreaks *b, const PtaGdbSoftware *gone)
{
    uint8_t now;
    if (!software_at(b, gone->gpa) &&
        pta_memory_read(b->memory, gone->gpa, &now, 1) == PTA_MEM_OK && now == INT3) {
        pta_memory_write(b->memory, gone->gpa, &gone->original, 1);
    }
}

int pta_gdb_software_remove(PtaGdbBreaks *b, uint64_t lin)
{
    PtaGdbSoftware *old = software_find(b, lin);
    if (old) {
        PtaGdbSoftware gone = *old;
        *old = b->software[--b->n_software];
        restore(b, &gone);
    }
    return 0;
}

/* ---- hardware ---- */

static PtaGdbHardware *hardware_find(PtaGdbBreaks *b, PtaGdbBreakType type, uint64_t lin,
                                     uint64_t len)
{
    for (unsigned i = 0; i < b->n_hardware; i++) {
        PtaGdbHardware *h = &b->hardware[i];
        if (h->type == type && h->lin == lin && h->len == len) {
            return h;
        }
    }
    return NULL;
}

/* The largest aligned piece at the beginning of a range: 1, 2, 4 or 8 bytes. */
static unsigned piece_at(uint64_t lin, uint64_t len)
{
    unsigned n = 8;
    while (n > len || (lin & (n - 1))) {
        n /= 2;
    }
    return n;
}

static void slot_set(PtaGdbBreaks *b, unsigned slot, unsigned rw, uint64_t lin, unsigned len)
{
    static const uint8_t len_code[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
    b->dr[slot] = lin;
    b->dr7 &= ~(UINT64_C(0xf) << (16 + slot * 4));
    b->dr7 |= UINT64_C(2) << (slot * 2);
    b->dr7 |= (uint64_t)(len_code[len] << 2 | rw) << (16 + slot * 4);
}

static bool slot_free(const PtaGdbBreaks *b, unsigned slot)
{
    return !(b->dr7 >> (slot * 2) & 3);
}

static void slots_clear(PtaGdbBreaks *b, unsigned slots)
{
    for (unsigned i = 0; i < 4; i++) {
        if (slots >> i & 1) {
            b->dr[i] = 0;
            b->dr7 &= ~(UINT64_C(3) << (i * 2));
            b->dr7 &= ~(UINT64_C(0xf) << (16 + i * 4));
        }
    }
}

int pta_gdb_hardware_add(PtaGdbBreaks *b, PtaGdbBreakType type, uint64_t lin, uint64_t len)
{
    if (type == PTA_GDB_HARDWARE ? len != 1 : len == 0 || lin + len - 1 < lin) {
        return EINVAL;
    }
    if (hardware_find(b, type, lin, len)) {
        return 0;
    }
    PtaGdbHardware new = { .type = type, .lin = lin, .len = len };
    for (uint64_t at = lin, left = len; left > 0;) {
        unsigned slot = 0;
        while (slot < 4 && !slot_free(b, slot)) {
            slot++;
        }
        if (slot == 4) {
            slots_clear(b, new.slots);
            return ENOSPC;
        }
        unsigned n = piece_at(at, left);
        slot_set(b, slot, rw_of[type], at, n);
        new.slots |= (uint8_t)(1u << slot);
        at += n;
        left -= n;
    }
    b->hardware[b->n_hardware++] = new;
    return 0;
}

int pta_gdb_hardware_remove(PtaGdbBreaks *b, PtaGdbBreakType type, uint64_t lin, uint64_t len)
{
    PtaGdbHardware *old = hardware_find(b, type, lin, len);
    if (old) {
        slots_clear(b, old->slots);
        *old = b->hardware[--b->n_hardware];
    }
    return 0;
}

const PtaGdbHardware *pta_gdb_hardware_hit(const PtaGdbBreaks *b, uint64_t dr6)
{
    for (unsigned i = 0; i < b->n_hardware; i++) {
        if (b->hardware[i].slots & dr6) {
            return &b->hardware[i];
        }
    }
    return NULL;
}

void pta_gdb_breaks_clear(PtaGdbBreaks *b)
{
    while (b->n_software > 0) {
        pta_gdb_software_remove(b, b->software[0].lin);
    }
    b->n_hardware = 0;
    slots_clear(b, 0xf);
}

void pta_gdb_breaks_fill(const PtaGdbBreaks *b, PtaGuestDebug *debug)
{
    debug->sw_breakpoints = b->n_software > 0;
    memcpy(debug->dr, b->dr, sizeof(debug->dr));
    debug->dr7 = b->dr7;
    debug->enabled = debug->single_step || debug->sw_breakpoints || debug->dr7 != 0;
}

/* ---- memory ---- */

PtaMemStatus pta_gdb_memory_read(const PtaGdbBreaks *b, uint64_t gpa, uint8_t *buf, size_t len)
{
    PtaMemStatus status = pta_memory_read(b->memory, gpa, buf, len);
    for (unsigned i = 0; i < b->n_software && status == PTA_MEM_OK; i++) {
        const PtaGdbSoftware *s = &b->software[i];
        if (s->gpa - gpa < len && buf[s->gpa - gpa] == INT3) {
            buf[s->gpa - gpa] = s->original;
        }
    }
    return status;
}

/* The breakpoints stay, over the new text. */
PtaMemStatus pta_gdb_memory_write(PtaGdbBreaks *b, uint64_t gpa, const uint8_t *buf, size_t len)
{
    static const uint8_t int3 = INT3;
    PtaMemStatus status = pta_memory_write(b->memory, gpa, buf, len);
    for (unsigned i = 0; i < b->n_software && status == PTA_MEM_OK; i++) {
        PtaGdbSoftware *s = &b->software[i];
        if (s->gpa - gpa < len) {
            s->original = buf[s->gpa - gpa];
            pta_memory_write(b->memory, s->gpa, &int3, 1);
        }
    }
    return status;
}
