/*
 * The differential test of the software CPU against the host's: for every row of the opcode table,
 * every encoding of it with random operands, flags and memory. TAP on standard output; a row that
 * differs prints the vector, the difference, and how to see it again.
 *
 *   diff [--count N] [--seed N] [--only MNEMONIC] [--endless] [--record FILE]
 *   diff --replay FILE…      needs no host's CPU: outcomes that were recorded
 */
#include "config.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/partition/backend.h"
#include "tests/cpu/diff.h"

static struct {
    int count;
    gint64 seed;
    char *only;
    gboolean endless;
    char *record;
    gboolean replay;
    int failures; /* per row that are printed */
} options = {
#ifdef PTA_SANITIZED
    .count = 50, /* each costs many times as much */
#else
    .count = 1000,
#endif
    .seed = 1,
    .failures = 3,
};

/* ---- what must be equal ---- */

/* Status flags that this execution leaves undefined: where the table's answer is conditional. */
static uint64_t undefined_flags(const X86Row *row, const X86Insn *in, const DiffVector *v)
{
    const unsigned mask = in->width == 8 ? 63 : 31;
    const bool by_cl = in->form == X86_F_E_R;
    const unsigned count = (by_cl ? (unsigned)v->in.gpr[PTA_X86_RCX] : (unsigned)in->imm) & mask;
    switch (row->key) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        if (count == 0) {
            return 0;
        }
        return X86_AF | (count == 1 ? 0u : X86_OF) |
               (count >= in->width * 8u && row->key != ZYDIS_MNEMONIC_SAR ? X86_CF : 0u);
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return count == 0 ? 0 : X86_AF | (count == 1 ? 0u : X86_OF);
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        return count <= 1 ? 0 : X86_OF;
    default:
        return row->undefined;
    }
}

/* x87 condition codes that the SDM leaves undefined. */
static uint16_t undefined_codes(const X86Row *row, const X86Insn *in)
{
    return 0;
}

static bool is_environment(unsigned key)
{
    return key == ZYDIS_MNEMONIC_FNSTENV || key == ZYDIS_MNEMONIC_FNSAVE;
}

/* Instructions of many accesses: which of them faults first is the processor's own. */
static bool takes_pieces(const X86Row *row)
{
    switch (row->key) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
        return true;
    default:
        return false;
    }
}

/* Pointers to the last x87 instruction: processors differ in when they keep them, and in whether
 * selectors are among them. Where they may lie in stored images. */
static void forget_pointers(const X86Row *row, const X86Insn *in, const DiffVector *v, DiffState *a,
                            DiffState *b)
{
    unsigned from = 0, to = 0;
    if (row->handler == op_fxsave) {
        from = 6;
        to = 24;
    } else if (is_environment(row->key)) {
        const bool narrow = in->pfx & X86_PFX_OPSIZE && !(in->pfx & X86_PFX_REXW);
        from = narrow ? 6 : 12;
        to = narrow ? 14 : 28;
    }
    for (unsigned i = from; i < to; i++) {
        const uint64_t at = v->target + i - DIFF_ARENA;
        if (at < DIFF_ARENA_LEN) {
            a->arena[at] = b->arena[at] = 0;
        }
    }
}

static void report_bytes(GString *report, const char *name, unsigned index, const uint8_t *was,
                         const uint8_t *host, const uint8_t *ours, unsigned n)
{
    if (memcmp(host, ours, n) == 0) {
        return;
    }
    g_string_append_printf(report, "#   %s%u: was ", name, index);
    for (unsigned k = 0; k < 3; k++) {
        const uint8_t *p = k == 0 ? was : k == 1 ? host : ours;
        g_string_append(report, k == 0 ? "" : k == 1 ? ", host " : ", ours ");
        for (unsigned i = n; i-- > 0;) {
            g_string_append_printf(report, "%02x", p[i]);
        }
    }
    g_string_append(report, "\n");
}

/* FXSAVE images, without the pointers to the last x87 instruction. */
static void compare_fx(const uint8_t *was, const uint8_t *host, const uint8_t *ours,
                       uint16_t sw_mask, unsigned n_xmm, GString *report)
{
    uint16_t host_sw, our_sw, was_sw;
    memcpy(&host_sw, host + 2, 2);
    memcpy(&our_sw, ours + 2, 2);
    memcpy(&was_sw, was + 2, 2);
    report_bytes(report, "fcw", 0, was, host, ours, 2);
    if ((host_sw ^ our_sw) & sw_mask) {
        g_string_append_printf(report, "#   fsw: was %04x, host %04x, ours %04x (fcw %02x%02x)\n",
                               was_sw, host_sw, our_sw, was[1], was[0]);
    }
    report_bytes(report, "tags", 0, was + 4, host + 4, ours + 4, 1);
    report_bytes(report, "mxcsr", 0, was + 24, host + 24, ours + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        report_bytes(report, "st", i, was + 32 + i * 16, host + 32 + i * 16, ours + 32 + i * 16,
                     10);
    }
    for (unsigned i = 0; i < n_xmm; i++) {
        report_bytes(report, "xmm", i, was + 160 + i * 16, host + 160 + i * 16, ours + 160 + i * 16,
                     16);
    }
}

/* One line for each difference; true if there is none. */
static bool compare(const DiffForm *form, const DiffVector *v, const DiffOutcome *host,
                    const DiffOutcome *ours, GString *report)
{
    static const char *const names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
    const X86Row *row = &x86_rows[form->row];
    DiffOutcome a = *host, b = *ours;
    X86Insn in = { 0 };
    X86Decoded info;
    uint64_t flags = X86_STATUS | X86_DF;
    uint16_t sw = 0xffff;
    x86_decode(diff_decoder(), form->compat ? X86_MODE_32 : X86_MODE_64, v->code, 15, &in, &info);
    if (a.vector == DIFF_NO_FAULT && b.vector == DIFF_NO_FAULT) {
        flags &= ~undefined_flags(row, &in, v);
        sw &= (uint16_t)~undefined_codes(row, &in);
        forget_pointers(row, &in, v, &a.state, &b.state);
    }
    if (takes_pieces(row)) {
        a.cr2 &= PTA_PAGE_MASK;
        b.cr2 &= PTA_PAGE_MASK;
    }
    if (a.vector != b.vector || a.error != b.error || a.cr2 != b.cr2) {
        g_string_append_printf(
            report, "#   exception: host %d(%x) cr2 %" PRIx64 ", ours %d(%x) cr2 %" PRIx64 "\n",
            (int8_t)a.vector, a.error, a.cr2, (int8_t)b.vector, b.error, b.cr2);
    }
    for (unsigned i = 0; i < (form->compat ? 8 : 16); i++) {
        if (a.state.gpr[i] != b.state.gpr[i]) {
            g_string_append_printf(report,
                                   "#   %s: was %" PRIx64 ", host %" PRIx64 ", ours %" PRIx64 "\n",
                                   names[i], v->in.gpr[i], a.state.gpr[i], b.state.gpr[i]);
        }
    }
    if (a.state.rip != b.state.rip) {
        g_string_append_printf(report,
                               "#   rip: was %" PRIx64 ", host %" PRIx64 ", ours %" PRIx64 "\n",
                               v->in.rip, a.state.rip, b.state.rip);
    }
    if ((a.state.rflags ^ b.state.rflags) & flags) {
        g_string_append_printf(report,
                               "#   rflags: was %" PRIx64 ", host %" PRIx64 ", ours %" PRIx64
                               " (of %" PRIx64 ")\n",
                               v->in.rflags, a.state.rflags & flags, b.state.rflags & flags, flags);
    }
    compare_fx(v->in.fx, a.state.fx, b.state.fx, sw, form->compat ? 8 : 16, report);
    for (unsigned i = 0; i < DIFF_ARENA_LEN; i++) {
        if (a.state.arena[i] != b.state.arena[i]) {
            g_string_append_printf(
                report, "#   memory %" PRIx64 ": was %02x, host %02x, ours %02x\n", DIFF_ARENA + i,
                v->in.arena[i], a.state.arena[i], b.state.arena[i]);
        }
    }
    if (memcmp(a.state.edge, b.state.edge, DIFF_EDGE_LEN) != 0) {
        g_string_append(report, "#   memory before the end of the last page\n");
    }
    return report->len == 0;
}

static void print_vector(const DiffForm *form, const DiffVector *v)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter formatter;
    char text[96] = "?";
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&diff_decoder()->size[form->compat ? X86_MODE_32 : X86_MODE_64],
                                   v->code, 15, &z, ops))) {
        ZydisFormatterFormatInstruction(&formatter, &z, ops, z.operand_count_visible, text,
                                        sizeof(text), v->in.rip, NULL);
    }
    printf("# %s%s:", form->compat ? "[32-bit] " : "", text);
    for (unsigned i = 0; i < v->len; i++) {
        printf(" %02x", v->code[i]);
    }
    printf("\n#  ");
    for (unsigned i = 0; i < (form->compat ? 8 : 16); i++) {
        printf(" %" PRIx64, v->in.gpr[i]);
    }
    printf("\n");
}

/* ---- a row ---- */

/* Where CPUID says that the host has it: SDM vol. 2, CPUID. */
typedef struct HostFeature {
    unsigned feature;
    uint32_t leaf;
    unsigned reg, bit; /* EAX 0 to EDX 3 */
    const char *name;
} HostFeature;

static const char *host_lacks(unsigned feature)
{
#ifdef __x86_64__
    enum { EBX = 1, ECX = 2 };
    static const HostFeature features[] = {
        { PTA_X86_FEAT_CX16, 1, ECX, 13, "cmpxchg16b" },
        { PTA_X86_FEAT_LAHF64, 0x80000001, ECX, 0, "lahf_lm" },
        { PTA_X86_FEAT_POPCNT, 1, ECX, 23, "popcnt" },
        { PTA_X86_FEAT_SSE3, 1, ECX, 0, "sse3" },
        { PTA_X86_FEAT_SSSE3, 1, ECX, 9, "ssse3" },
        { PTA_X86_FEAT_SSE41, 1, ECX, 19, "sse4.1" },
        { PTA_X86_FEAT_SSE42, 1, ECX, 20, "sse4.2" },
        { PTA_X86_FEAT_BMI1, 7, EBX, 3, "bmi1" },
        { PTA_X86_FEAT_BMI2, 7, EBX, 8, "bmi2" },
        { PTA_X86_FEAT_LZCNT, 0x80000001, ECX, 5, "lzcnt" },
        { PTA_X86_FEAT_MOVBE, 1, ECX, 22, "movbe" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        const HostFeature *f = &features[i];
        uint32_t regs[4] = { 0 };
        if (f->feature == feature) {
            bool has = __get_cpuid_count(f->leaf, 0, &regs[0], &regs[1], &regs[2], &regs[3]) &&
                       (regs[f->reg] >> f->bit & 1);
            return has ? NULL : f->name;
        }
    }
    return NULL;
#else
    return "x86-64";
#endif
}

typedef struct Batch {
    DiffVector vectors[DIFF_BATCH];
    DiffOutcome host[DIFF_BATCH], ours[DIFF_BATCH];
} Batch;

/* Writes `count` vectors of the form with what the host makes of them. */
static void record_form(const DiffForm *form, Batch *b, DiffRand *r, unsigned count, FILE *f)
{
    unsigned culprit;
    for (unsigned i = 0; i < count;) {
        if (!diff_make(form, r, 0, &b->vectors[0])) {
            continue;
        }
        diff_golden_shrink(form, &b->vectors[0]);
        if (diff_native_run(b->vectors, b->host, 1, &culprit)) {
            diff_golden_write(f, form, b->vectors, b->host);
        }
        i++;
    }
}

/* Runs one form; number of vectors that differed. */
static unsigned run_form(const DiffForm *form, Batch *b, DiffRand *r, unsigned count,
                         unsigned *printed)
{
    unsigned bad = 0;
    unsigned throws = 0;
    while (count > 0) {
        const unsigned n = MIN(count, DIFF_BATCH);
        unsigned culprit = 0;
        for (unsigned i = 0; i < n && throws < 200000;) {
            i += diff_make(form, r, i, &b->vectors[i]);
            throws++;
        }
        if (throws >= 200000) {
            printf("# %s: no valid vector found\n", form->text);
            return 1;
        }
        throws = 0;
        if (!diff_native_run(b->vectors, b->host, n, &culprit)) {
            printf("# the host's process died of:\n");
            print_vector(form, &b->vectors[culprit]);
            return bad + 1;
        }
        diff_soft_run(b->vectors, b->ours, n);
        for (unsigned i = 0; i < n; i++) {
            g_autoptr(GString) report = g_string_new(NULL);
            if (!compare(form, &b->vectors[i], &b->host[i], &b->ours[i], report)) {
                bad++;
                if ((*printed)++ < (unsigned)options.failures) {
                    print_vector(form, &b->vectors[i]);
                    fputs(report->str, stdout);
                }
            }
        }
        count -= n;
    }
    return bad;
}

static bool wanted(const char *name)
{
    return !options.only || g_ascii_strcasecmp(name, options.only) == 0;
}

static int run_rows(uint64_t features, FILE *record)
{
    g_autofree Batch *b = g_new0(Batch, 1);
    g_autoptr(GArray) forms = diff_forms(features, false);
    unsigned test = 0, bad_rows = 0;
    if (diff_native_has_compat()) {
        g_autoptr(GArray) more = diff_forms(features, true);
        g_array_append_vals(forms, more->data, more->len);
    } else {
        printf("# no 32-bit code segment on this host: 64-bit forms only\n");
    }
    printf("1..%u\n", X86_N_ROWS - 1);
    for (unsigned row = 1; row < X86_N_ROWS; row++) {
        const X86Row *x = &x86_rows[row];
        const char *why = diff_row_skipped(x);
        unsigned n_forms = 0, bad = 0, printed = 0, recorded = 0; /* forms with, without memory */
        test++;
        if (!why && !wanted(x->name)) {
            why = "not asked for";
        }
        if (why || host_lacks(x->feature)) {
            printf("ok %u - %s # SKIP %s%s\n", test, x->name, why ? why : "the host has no ",
                   why ? "" : host_lacks(x->feature));
            continue;
        }
        for (unsigned i = 0; i < forms->len; i++) {
            const DiffForm *form = &g_array_index(forms, DiffForm, i);
            if (form->row == row) {
                DiffRand r = ((uint64_t)options.seed << 32 | i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
                n_forms++;
                if (!record) {
                    bad += run_form(form, b, &r, (unsigned)options.count, &printed);
                } else if (diff_golden_wanted(form) && !(recorded & 1u << form->mem)) {
                    recorded |= 1u << form->mem;
                    record_form(form, b, &r, (unsigned)options.count, record);
                }
            }
        }
        if (n_forms == 0) {
            printf("ok %u - %s # SKIP no encoding in the modes that run here\n", test, x->name);
        } else {
            printf("%sok %u - %s: %u forms of %d vectors", bad ? "not " : "", test, x->name,
                   n_forms, options.count);
            printf(bad ? ", %u differ; again: --only %s --seed %" G_GINT64_FORMAT " --count %d\n"
                       : "\n",
                   bad, x->name, options.seed, options.count);
        }
        bad_rows += bad != 0;
        fflush(stdout);
    }
    return bad_rows ? 1 : 0;
}

/* ---- recorded outcomes ---- */

static int replay(char **files)
{
    g_autofree Batch *b = g_new0(Batch, 1);
    unsigned test = 0, bad_files = 0;
    printf("1..%u\n", g_strv_length(files));
    for (; *files; files++) {
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        unsigned n = 0, bad = 0;
        if (!g_file_get_contents(*files, &text, NULL, &error)) {
            printf("not ok %u - %s\n", ++test, error->message);
            bad_files++;
            continue;
        }
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
            DiffForm form;
            g_autoptr(GString) report = g_string_new(NULL);
            if (**line == '\0' || **line == '#') {
                continue;
            }
            n++;
            if (!diff_golden_read(*line, &form, &b->vectors[0], &b->host[0])) {
                printf("# not a vector: %.60s\n", *line);
                bad++;
                continue;
            }
            diff_soft_run(b->vectors, b->ours, 1);
            if (!compare(&form, &b->vectors[0], &b->host[0], &b->ours[0], report)) {
                bad++;
                print_vector(&form, &b->vectors[0]);
                fputs(report->str, stdout);
            }
        }
        g_autofree char *name = g_path_get_basename(*files);
        const bool ok = bad == 0 && n > 0;
        printf("%sok %u - %s: %u vectors, %u differ\n", ok ? "" : "not ", ++test, name, n, bad);
        bad_files += !ok;
    }
    return bad_files ? 1 : 0;
}

int main(int argc, char **argv)
{
    const GOptionEntry entries[] = {
        { "count", 'n', 0, G_OPTION_ARG_INT, &options.count, "Vectors of each form", "N" },
        { "seed", 's', 0, G_OPTION_ARG_INT64, &options.seed, "Seed of the first round", "N" },
        { "only", 'o', 0, G_OPTION_ARG_STRING, &options.only, "One row", "MNEMONIC" },
        { "failures", 'f', 0, G_OPTION_ARG_INT, &options.failures, "How many to print a row", "N" },
        { "endless", 'e', 0, G_OPTION_ARG_NONE, &options.endless, "Go on with the next seed",
          NULL },
        { "record", 'r', 0, G_OPTION_ARG_FILENAME, &options.record, "Write vectors", "FILE" },
        { "replay", 0, 0, G_OPTION_ARG_NONE, &options.replay, "Check recorded vectors", NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- software CPU against the host's");
    g_autoptr(GError) error = NULL;
    const char *why = NULL;
    const uint64_t features = UINT64_MAX; /* whatever has a row */
    int status;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (options.replay) {
        diff_soft_start(features);
        status = replay(argv + 1);
        diff_soft_stop();
        return status;
    }
    if (!diff_native_start(&why)) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    diff_soft_start(features);
    FILE *record = options.record ? fopen(options.record, "w") : NULL;
    if (options.record && !record) {
        perror(options.record);
        return 2;
    }
    do {
        status = run_rows(features, record);
        options.seed++;
    } while (options.endless && status == 0 && !record);
    if (record) {
        fclose(record);
    }
    diff_soft_stop();
    diff_native_stop();
    return status;
}
