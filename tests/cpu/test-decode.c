/*
 * A decoder that remembers says the same as one that does not: of random instructions, of the same
 * ones with other displacements and immediates, and of those cut short.
 */
#include "config.h"

#include <string.h>

#include "src/soft/decode.h"
#include "src/soft/soft.h"
#include "tests/lib/cmocka-all.h"

#define ROUNDS 60000

static uint64_t rng = 88172645463325252u;

static uint64_t next(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

/* Often prefixes, REX, the two-byte map and SIB; the rest is random. */
static void make_code(uint8_t *code)
{
    static const uint8_t prefixes[] = {
        0x66, 0xf2, 0xf3, 0x65, 0x67, 0xf0, 0x2e, 0x48, 0x41, 0x4c
    };
    for (unsigned i = 0; i < 16; i++) {
        code[i] = (uint8_t)(next() >> 33);
    }
    unsigned at = 0;
    while (at < 3 && next() % 5 < 2) {
        code[at++] = prefixes[next() % G_N_ELEMENTS(prefixes)];
    }
    if (next() % 3 == 0) {
        code[at++] = 0x0f;
    }
    if (next() % 4 == 0) {
        code[at + 1] = (uint8_t)((code[at + 1] & 0xf8) | 4); /* ModRM with a SIB byte */
    }
}

static void check_one(const X86Decoder *plain, const X86Decoder *memo, unsigned mode,
                      const uint8_t *code, size_t n)
{
    X86Insn a, b;
    X86Decoded info_a, info_b;
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    X86DecodeStatus want = x86_decode(plain, mode, code, n, &a, &info_a);
    X86DecodeStatus is = x86_decode(memo, mode, code, n, &b, &info_b);
    assert_int_equal(want, is);
    if (want != X86_DECODE_OK) {
        return;
    }
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(info_a.reads, info_b.reads);
    assert_int_equal(info_a.writes, info_b.writes);
    assert_int_equal(info_a.may_fault, info_b.may_fault);
    assert_int_equal(info_a.branch, info_b.branch);
}

static void memory_changes_nothing(void **unused)
{
    static const unsigned modes[] = { X86_MODE_16, X86_MODE_32, X86_MODE_64 };
    X86Decoder plain = { 0 }, memo = { 0 };
    x86_decoder_init(&plain, UINT64_MAX);
    x86_decoder_init(&memo, UINT64_MAX);
    x86_decoder_remember(&memo);
    unsigned valid = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t code[16];
        make_code(code);
        unsigned mode = modes[next() % 4 % 3 == 0 ? 2 : next() % 3];
        X86Insn in;
        X86Decoded info;
        if (x86_decode(&plain, mode, code, 15, &in, &info) == X86_DECODE_OK) {
            valid++;
        }
        check_one(&plain, &memo, mode, code, 15);
        /* The same instruction, other bytes at its end: ever fewer of them stay. */
        for (unsigned keep = 15; keep-- > 1;) {
            code[keep] = (uint8_t)(next() >> 40);
            check_one(&plain, &memo, mode, code, 15);
            if (next() % 4 == 0) {
                check_one(&plain, &memo, modes[next() % 3], code, 1 + next() % 15);
            }
        }
    }
    x86_decoder_clear(&memo);
    assert_in_range(valid, ROUNDS / 3, ROUNDS); /* else the test tests little */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
