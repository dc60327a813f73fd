/* Disassembly of guest code by Zydis, around an address. No state. */
#include "config.h"

#include "src/partition/x86-disasm.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "src/partition/x86-walk.h"

#define EFER_LMA   (UINT64_C(1) << 10)
#define CR0_PE     UINT64_C(1)
#define RFLAGS_VM  (UINT64_C(1) << 17)
#define ATTRS_L    (1u << 13)
#define ATTRS_DB   (1u << 14)

#define BEFORE_MAX 8

typedef struct Code {
    ZydisMachineMode mode;
    uint64_t rip;                                       /* of bytes[0] */
    uint8_t bytes[(BEFORE_MAX + 1) * PTA_X86_INSN_MAX]; /* what could be read */
    size_t len;
} Code;

static ZydisMachineMode machine_mode(const PtaX86Regs *regs)
{
    uint16_t attrs = regs->seg[PTA_X86_CS].attrs;
    if (regs->efer & EFER_LMA && attrs & ATTRS_L) {
        return ZYDIS_MACHINE_MODE_LONG_64;
    }
    if (!(regs->cr0 & CR0_PE) || regs->rflags & RFLAGS_VM) {
        return ZYDIS_MACHINE_MODE_REAL_16;
    }
    return attrs & ATTRS_DB ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
}

static uint64_t linear(const PtaX86Regs *regs, uint64_t rip)
{
    return rip +
           (machine_mode(regs) == ZYDIS_MACHINE_MODE_LONG_64 ? 0 : regs->seg[PTA_X86_CS].base);
}

/* The instruction at offset `at`; 0 if there is none, else its length. text may be NULL. */
static size_t decode(const Code *code, size_t at, char *text, size_t size)
{
    ZydisDisassembledInstruction d;
    if (at >= code->len || !ZYAN_SUCCESS(ZydisDisassembleIntel(
                               code->mode, code->rip + at, code->bytes + at, code->len - at, &d))) {
        return 0;
    }
    if (text) {
        g_strlcpy(text, d.text, size);
    }
    return d.info.length;
}

static void put_line(const Code *code, size_t at, size_t len, PtaX86DisasmLine *line)
{
    *line = (PtaX86DisasmLine){ .rip = code->rip + at, .len = (uint8_t)len };
    memcpy(line->bytes, code->bytes + at, len);
    if (!decode(code, at, line->text, sizeof(line->text))) {
        g_strlcpy(line->text, "(bad)", sizeof(line->text));
    }
}

/* Where each offset's instruction ends, and how many ways through the code lead by the offset. x86
 * code read from a wrong place soon falls into step: most ways lead by the true boundaries. */
typedef struct Ways {
    size_t next[sizeof(((Code *)0)->bytes)]; /* 0: no instruction */
    unsigned votes[sizeof(((Code *)0)->bytes)];
} Ways;

static void find_ways(const Code *code, Ways *ways)
{
    for (size_t at = 0; at < code->len; at++) {
        size_t len = decode(code, at, NULL, 0);
        ways->next[at] = len > 0 ? at + len : 0;
        ways->votes[at] = 1;
    }
    for (size_t at = 0; at < code->len; at++) {
        if (ways->next[at] > 0 && ways->next[at] < code->len) {
            ways->votes[ways->next[at]] += ways->votes[at];
        }
    }
}

/* The likeliest instruction that ends at `end`; false if none does. */
static bool find_before(const Ways *ways, size_t end, size_t *at)
{
    bool found = false;
    for (size_t i = end > PTA_X86_INSN_MAX ? end - PTA_X86_INSN_MAX : 0; i < end; i++) {
        if (ways->next[i] == end && (!found || ways->votes[i] >= ways->votes[*at])) {
            *at = i;
            found = true;
        }
    }
    return found;
}

static unsigned lines_before(const PtaMemory *mem, const PtaX86Regs *regs, unsigned before,
                             PtaX86DisasmLine *lines)
{
    Code code = { .mode = machine_mode(regs) };
    size_t size = MIN(regs->rip, (uint64_t)before * PTA_X86_INSN_MAX);
    /* What lies before may begin in a page that is not there: take what ends at rip. */
    while (size > 0) {
        code.rip = regs->rip - size;
        code.len = pta_x86_read_linear(mem, regs, linear(regs, code.rip), code.bytes, size);
        if (code.len == size) {
            break;
        }
        size -= MIN(code.len + 1, size);
        code.len = 0;
    }
    Ways ways;
    find_ways(&code, &ways);
    size_t starts[BEFORE_MAX + 1] = { code.len };
    unsigned n = 0;
    while (n < before && find_before(&ways, starts[n], &starts[n + 1])) {
        n++;
    }
    for (unsigned i = 0; i < n; i++) {
        put_line(&code, starts[n - i], starts[n - i - 1] - starts[n - i], &lines[i]);
    }
    return n;
}

unsigned pta_x86_disassemble_around(const PtaMemory *mem, const PtaX86Regs *regs, unsigned before,
                                    unsigned after, PtaX86DisasmLine *lines)
{
    g_assert(before <= BEFORE_MAX && after <= BEFORE_MAX);
    Code code = { .mode = machine_mode(regs), .rip = regs->rip };
    code.len = pta_x86_read_linear(mem, regs, linear(regs, regs->rip), code.bytes,
                                   (after + 1) * PTA_X86_INSN_MAX);
    if (code.len == 0) {
        return 0;
    }
    unsigned n = before > 0 ? lines_before(mem, regs, before, lines) : 0;
    size_t at = 0;
    for (unsigned i = 0; i <= after && at < code.len; i++) {
        size_t len = decode(&code, at, NULL, 0);
        put_line(&code, at, len ? len : 1, &lines[n]);
        lines[n++].current = i == 0;
        if (len == 0) {
            break; /* what follows is a guess without a basis */
        }
        at += len;
    }
    return n;
}
