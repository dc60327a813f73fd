/*
 * The differential test: vectors with their outcome as lines of text, so that what was once learnt
 * from a host's CPU is checked on every other.
 *
 *   MNEMONIC 64|32 CODE target vector error cr2 | runs of the state before | runs that it changes
 *
 * A run is offset:bytes in hexadecimal, within DiffState; what no run names is zero (before) or as
 * before (after).
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cpu/diff.h"

/* ---- writing ---- */

static void write_runs(FILE *f, const uint8_t *base, const uint8_t *state)
{
    size_t i = 0;
    while (i < sizeof(DiffState)) {
        if (base[i] == state[i]) {
            i++;
            continue;
        }
        fprintf(f, " %zx:", i);
        while (i < sizeof(DiffState) && base[i] != state[i]) {
            fprintf(f, "%02x", state[i++]);
        }
    }
}

void diff_golden_write(FILE *f, const DiffForm *form, const DiffVector *v, const DiffOutcome *out)
{
    static const DiffState zero;
    fprintf(f, "%s %s ", x86_rows[form->row].name, form->compat ? "32" : "64");
    for (unsigned i = 0; i < v->len; i++) {
        fprintf(f, "%02x", v->code[i]);
    }
    fprintf(f, " %" PRIx64 " %x %x %" PRIx64 " |", v->target, out->vector, out->error, out->cr2);
    write_runs(f, (const uint8_t *)&zero, (const uint8_t *)&v->in);
    fprintf(f, " |");
    write_runs(f, (const uint8_t *)&v->in, (const uint8_t *)&out->state);
    fprintf(f, "\n");
}

static bool near_any(const DiffVector *v, unsigned size, uint64_t lin)
{
    static const uint8_t pointers[] = { PTA_X86_RSP, PTA_X86_RBP, PTA_X86_RSI, PTA_X86_RDI,
                                        PTA_X86_RBX };
    if (lin + 4 >= v->target && lin < v->target + size + 4) {
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pointers); i++) {
        const uint64_t p = v->in.gpr[pointers[i]];
        if (lin + 16 >= p && lin < p + 16) {
            return true;
        }
    }
    return false;
}

/* Leaves what the instruction may look at, so that the line stays short. */
void diff_golden_shrink(const DiffForm *form, DiffVector *v)
{
    const unsigned props = x86_rows[form->row].props;
    for (unsigned i = 0; i < DIFF_ARENA_LEN; i++) {
        if (!near_any(v, form->mem_size, DIFF_ARENA + i)) {
            v->in.arena[i] = 0;
        }
    }
    memset(v->in.edge, 0, DIFF_EDGE_LEN);
    if (!(props & (X86_P_X87 | X86_P_MMX))) {
        memset(v->in.fx + 32, 0, 128);
    }
    X86Insn in = { 0 };
    X86Decoded info;
    x86_decode(diff_decoder(), form->compat ? X86_MODE_32 : X86_MODE_64, v->code, 15, &in, &info);
    for (unsigned i = 0; i < 16; i++) {
        if (!(props & X86_P_SSE) || (i != in.reg && i != in.rm)) {
            memset(v->in.fx + 160 + i * 16, 0, 16);
        }
    }
}

/* Results that are the host's own, in their last bits. */
bool diff_golden_wanted(const DiffForm *form)
{
    static const uint16_t own[] = {
        ZYDIS_MNEMONIC_RCPPS,  ZYDIS_MNEMONIC_RCPSS, ZYDIS_MNEMONIC_RSQRTPS, ZYDIS_MNEMONIC_RSQRTSS,
        ZYDIS_MNEMONIC_FSIN,   ZYDIS_MNEMONIC_FCOS,  ZYDIS_MNEMONIC_FSINCOS, ZYDIS_MNEMONIC_FPTAN,
        ZYDIS_MNEMONIC_FPATAN, ZYDIS_MNEMONIC_F2XM1, ZYDIS_MNEMONIC_FYL2X,   ZYDIS_MNEMONIC_FYL2XP1,
    };
    const X86Row *row = &x86_rows[form->row];
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++) {
        if (own[i] == row->key) {
            return false;
        }
    }
    return !form->compat || row->props & X86_P_NO64;
}

/* ---- reading ---- */

static bool hex_byte(const char **p, uint8_t *byte)
{
    const int high = g_ascii_xdigit_value((*p)[0]);
    const int low = high < 0 ? -1 : g_ascii_xdigit_value((*p)[1]);
    if (low < 0) {
        return false;
    }
    *byte = (uint8_t)(high << 4 | low);
    *p += 2;
    return true;
}

static bool read_number(const char **p, uint64_t *n)
{
    char *end;
    *n = g_ascii_strtoull(*p, &end, 16);
    const bool ok = end != *p;
    *p = end;
    return ok;
}

/* Up to the next '|' or the end of the line. */
static bool read_runs(const char **p, uint8_t *state)
{
    for (;;) {
        uint64_t at;
        uint8_t byte;
        *p += strspn(*p, " ");
        if (**p == '|' || **p == '\0' || **p == '\n') {
            *p += **p == '|';
            return true;
        }
        if (!read_number(p, &at) || **p != ':') {
            return false;
        }
        (*p)++;
        while (hex_byte(p, &byte)) {
            if (at >= sizeof(DiffState)) {
                return false;
            }
            state[at++] = byte;
        }
    }
}

static int row_by_name(const char *name, size_t len)
{
    for (unsigned i = 1; i < X86_N_ROWS; i++) {
        if (strlen(x86_rows[i].name) == len && strncmp(x86_rows[i].name, name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool diff_golden_read(const char *line, DiffForm *form, DiffVector *v, DiffOutcome *out)
{
    const char *p = line;
    const size_t name = strcspn(p, " ");
    const int row = row_by_name(p, name);
    uint64_t target, vector, error;
    memset(form, 0, sizeof(*form));
    memset(v, 0, sizeof(*v));
    memset(out, 0, sizeof(*out));
    if (row < 0 || (strncmp(p + name, " 64 ", 4) != 0 && strncmp(p + name, " 32 ", 4) != 0)) {
        return false;
    }
    form->row = (uint16_t)row;
    form->compat = v->compat = p[name + 1] == '3';
    p += name + 4;
    while (v->len < 15 && hex_byte(&p, &v->code[v->len])) {
        v->len++;
    }
    if (!read_number(&p, &target) || !read_number(&p, &vector) || !read_number(&p, &error) ||
        !read_number(&p, &out->cr2) || strncmp(p, " |", 2) != 0) {
        return false;
    }
    p += 2;
    v->target = target;
    out->vector = (uint32_t)vector;
    out->error = (uint32_t)error;
    if (!read_runs(&p, (uint8_t *)&v->in)) {
        return false;
    }
    out->state = v->in;
    return read_runs(&p, (uint8_t *)&out->state) && v->in.rip >= DIFF_CODE &&
           v->in.rip <= DIFF_CODE + DIFF_SLOT * (DIFF_BATCH - 1);
}
