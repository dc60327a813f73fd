/* Loading of kernels: each image format as it should be, and each refusal. The images are made
 * here. */
#include "config.h"

#include "src/boot/boot.h"

#include "tests/lib/cmocka-all.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/boot/layout.h"
#include "tests/lib/boot-fixture.h"

#define RAM (64 * PTA_MIB)

typedef struct Load {
    PtaMemory *mem;
    PtaX86State bsp;
    GError *error;
    char *initrd;
} Load;

static PtaBootParams default_params(void)
{
    return (PtaBootParams){
        .kernel_path = "/images/a kernel",
        .cmdline = "console=ttyS0 quiet",
        .devices = fixture_devices,
        .n_devices = fixture_n_devices,
        .n_vps = 2,
        .ioapic_id = 2,
    };
}

static int load_setup(void **state)
{
    Load *l = g_new0(Load, 1);
    l->mem = fixture_ram(RAM);
    /* As after a first boot: nothing may rely on RAM being zero. */
    pta_memory_fill(l->mem, 0, 0xa5, RAM);
    pta_x86_state_reset(&l->bsp, 0, 1);
    *state = l;
    return 0;
}

static int load_teardown(void **state)
{
    Load *l = *state;
    pta_memory_free(l->mem);
    g_clear_error(&l->error);
    if (l->initrd) {
        unlink(l->initrd);
        g_free(l->initrd);
    }
    g_free(l);
    return 0;
}

static bool load(Load *l, const PtaBootParams *params, const GByteArray *image)
{
    g_clear_error(&l->error);
    return pta_boot_load_image(l->mem, params, image->data, image->len, &l->bsp, &l->error);
}

static void assert_loads(Load *l, const PtaBootParams *params, const GByteArray *image)
{
    bool ok = load(l, params, image);
    if (l->error) {
        fail_msg("%s", l->error->message);
    }
    assert_true(ok);
}

static void assert_refused(Load *l, const PtaBootParams *params, const GByteArray *image,
                           PtaError code, const char *text)
{
    assert_false(load(l, params, image));
    assert_non_null(l->error);
    if (!strstr(l->error->message, text) || !g_error_matches(l->error, PTA_ERROR, code)) {
        fail_msg("expected \"%s\", got (%d) \"%s\"", text, l->error->code, l->error->message);
    }
}

static void assert_bad(Load *l, const GByteArray *image, const char *text)
{
    PtaBootParams params = default_params();
    assert_refused(l, &params, image, PTA_ERROR_BAD_IMAGE, text);
    assert_non_null(strstr(l->error->message, "/images/a kernel: "));
}

static void make_initrd(Load *l, const char *text, size_t size)
{
    g_autofree char *content = g_malloc0(size + 1);
    memcpy(content, text, strlen(text));
    int fd = g_file_open_tmp("partita-initrd-XXXXXX", &l->initrd, NULL);
    assert_true(fd >= 0);
    assert_true(pta_write_full(fd, content, size));
    close(fd);
}

static uint64_t guest_word(Load *l, uint64_t gpa, size_t size)
{
    uint8_t b[8] = { 0 };
    assert_int_equal(pta_memory_read(l->mem, gpa, b, size), PTA_MEM_OK);
    return pta_le64(b);
}

static void assert_guest_text(Load *l, uint64_t gpa, const char *text)
{
    g_autofree char *got = g_malloc0(strlen(text) + 1);
    assert_int_equal(pta_memory_read(l->mem, gpa, got, strlen(text) + 1), PTA_MEM_OK);
    assert_string_equal(got, text);
}

static void assert_rsdp(Load *l, uint64_t gpa)
{
    char signature[8];
    assert_int_equal(pta_memory_read(l->mem, gpa, signature, sizeof(signature)), PTA_MEM_OK);
    assert_memory_equal(signature, "RSD PTR ", sizeof(signature));
}

static void assert_guest_zero(Load *l, uint64_t gpa, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(guest_word(l, gpa + i, 1), 0);
    }
}

/* ---- images ---- */

#define KERNEL 0x1000000

static const char text_segment[] = "the text of the kernel";
static const char data_segment[] = "its data";

static GByteArray *vmlinux(void)
{
    const FixtureSegment segments[] = {
        { PT_LOAD, KERNEL, 0xffffffff81000000, sizeof(text_segment), text_segment,
          sizeof(text_segment) },
        { PT_LOAD, KERNEL + 0x1000, 0xffffffff81001000, 0x800, data_segment, sizeof(data_segment) },
    };
    return fixture_elf(true, KERNEL + 4, segments, G_N_ELEMENTS(segments));
}

static GByteArray *bzimage(const char *format)
{
    g_autoptr(GByteArray) elf = vmlinux();
    g_autoptr(GByteArray) payload = fixture_pack(format, elf->data, elf->len);
    return fixture_bzimage(payload->data, payload->len);
}

static void assert_kernel_is_there(Load *l)
{
    assert_guest_text(l, KERNEL, text_segment);
    assert_guest_text(l, KERNEL + 0x1000, data_segment);
    assert_guest_zero(l, KERNEL + 0x1000 + sizeof(data_segment), 0x800 - sizeof(data_segment));
    /* Not a byte more. */
    assert_int_equal(guest_word(l, KERNEL + 0x1800, 1), 0xa5);
}

static void assert_long_mode(Load *l, uint64_t rip)
{
    const PtaX86Regs *r = &l->bsp.regs;
    assert_int_equal(r->rip, rip);
    assert_int_equal(r->gpr[PTA_X86_RSI], PTA_BOOT_ZERO_PAGE);
    assert_int_equal(r->rflags, 2);
    assert_int_equal(r->cr0, 0x80000011);
    assert_int_equal(r->cr4, 0x20);
    assert_int_equal(r->efer, 0x500);
    assert_int_equal(r->seg[PTA_X86_CS].selector, 0x10);
    assert_int_equal(r->seg[PTA_X86_CS].attrs, 0xa09b);
    assert_int_equal(r->seg[PTA_X86_DS].selector, 0x18);
    /* The page tables map the first and the last 2 MiB below 4 GiB to themselves. */
    uint64_t pdpt = guest_word(l, r->cr3, 8) & ~UINT64_C(0xfff);
    uint64_t pd0 = guest_word(l, pdpt, 8) & ~UINT64_C(0xfff);
    uint64_t pd3 = guest_word(l, pdpt + 24, 8) & ~UINT64_C(0xfff);
    assert_int_equal(guest_word(l, pd0, 8), 0x83);
    assert_int_equal(guest_word(l, pd3 + 511 * 8, 8), 0xffe00083);
    assert_int_equal(guest_word(l, pdpt + 32, 8), 0);
    /* The GDT says what the hidden parts say. */
    assert_int_equal(guest_word(l, r->gdtr.base + 0x10, 8), 0x00af9b000000ffff);
    assert_int_equal(guest_word(l, r->gdtr.base + 0x18, 8), 0x00cf93000000ffff);
    assert_int_equal(guest_word(l, r->gdtr.base, 8), 0);
}

static void assert_zero_page(Load *l, uint64_t initrd_size)
{
    const uint64_t bp = PTA_BOOT_ZERO_PAGE;
    assert_int_equal(guest_word(l, bp + 0x70, 8), PTA_BOOT_ACPI);
    assert_rsdp(l, PTA_BOOT_ACPI);
    assert_int_equal(guest_word(l, bp + 0x1ef, 1), 0);
    assert_int_equal(guest_word(l, bp + 0x1fe, 2), 0xaa55);
    assert_int_equal(guest_word(l, bp + 0x202, 4), 0x53726448);
    assert_int_equal(guest_word(l, bp + 0x210, 1), 0xff);
    assert_int_equal(guest_word(l, bp + 0x228, 4), PTA_BOOT_CMDLINE);
    assert_guest_text(l, PTA_BOOT_CMDLINE, "console=ttyS0 quiet");
    assert_int_equal(guest_word(l, bp + 0x21c, 4), initrd_size);
    assert_int_equal(guest_word(l, bp + 0x1e8, 1), 4);
    static const uint64_t e820[4][3] = {
        { 0, 0x9fc00, 1 },
        { 0x9fc00, 0x400, 2 },
        { 0xe0000, 0x20000, 2 },
        { 0x100000, RAM - 0x100000, 1 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(e820); i++) {
        assert_int_equal(guest_word(l, bp + 0x2d0 + 20 * i, 8), e820[i][0]);
        assert_int_equal(guest_word(l, bp + 0x2d0 + 20 * i + 8, 8), e820[i][1]);
        assert_int_equal(guest_word(l, bp + 0x2d0 + 20 * i + 16, 4), e820[i][2]);
    }
    assert_int_equal(guest_word(l, 0x40e, 2), 0x9fc0);
    assert_int_equal(guest_word(l, 0x413, 2), 639);
}

/* ---- Linux ---- */

static void bzimage_of_each_format_loads(void **state)
{
    Load *l = *state;
    static const char *const formats[] = { "gzip", "xz", "lzma", "zstd", "lz4", "bzip2" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(GByteArray) image = bzimage(formats[i]);
        PtaBootParams params = default_params();
        pta_memory_fill(l->mem, 0, 0xa5, RAM);
        assert_loads(l, &params, image);
        assert_kernel_is_there(l);
        assert_long_mode(l, KERNEL + 4);
        assert_zero_page(l, 0);
        /* Fields of the image's own header came along. */
        assert_int_equal(guest_word(l, PTA_BOOT_ZERO_PAGE + 0x258, 8), KERNEL);
    }
}

/* Unpacked data larger than one lz4 block, hard and easy to pack by turns. */
static void large_payload_unpacks(void **state)
{
    Load *l = *state;
    const size_t size = 20 * PTA_MIB + 123;
    g_autofree uint8_t *data = g_malloc0(size);
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = i % 65536 < 8192 ? (uint8_t)(x >> 24) : (uint8_t)(i >> 12);
    }
    static const char *const formats[] = { "gzip", "zstd", "lz4" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(GByteArray) packed = fixture_pack(formats[i], data, size);
        PtaBootLoader loader = { .mem = l->mem, .name = "large" };
        uint8_t *out = NULL;
        size_t len = 0;
        assert_true(
            pta_boot_decompress(&loader, packed->data, packed->len, size, &out, &len, &l->error));
        assert_int_equal(len, size);
        assert_memory_equal(out, data, size);
        free(out);
        assert_false(pta_boot_decompress(&loader, packed->data, packed->len, size - 1, &out, &len,
                                         &l->error));
        assert_non_null(strstr(l->error->message, "the guest's RAM"));
        g_clear_error(&l->error);
    }
}

static void initrd_is_high_and_below_the_limit(void **state)
{
    Load *l = *state;
    make_initrd(l, "an initial RAM disk", 0x1801);
    PtaBootParams params = default_params();
    params.initrd_path = l->initrd;
    g_autoptr(GByteArray) image = bzimage("gzip");
    assert_loads(l, &params, image);
    assert_zero_page(l, 0x1801);
    uint64_t at = guest_word(l, PTA_BOOT_ZERO_PAGE + 0x218, 4);
    assert_int_equal(at, RAM - 0x2000);
    assert_guest_text(l, at, "an initial RAM disk");
    assert_guest_zero(l, at + 0x1801, 0x2000 - 0x1801);

    /* initrd_addr_max in the middle of the kernel: it has to go below the kernel. */
    pta_put_le32(image->data + 0x22c, KERNEL + 0x10ff);
    assert_loads(l, &params, image);
    at = guest_word(l, PTA_BOOT_ZERO_PAGE + 0x218, 4);
    assert_int_equal(at, KERNEL - 0x2000);
    assert_kernel_is_there(l);
}

static void initrd_is_refused(void **state)
{
    Load *l = *state;
    g_autoptr(GByteArray) image = bzimage("gzip");
    PtaBootParams params = default_params();
    params.initrd_path = "/nonexistent/initrd";
    assert_refused(l, &params, image, PTA_ERROR_HOST, "cannot open /nonexistent/initrd");
    params.initrd_path = "/tmp";
    assert_refused(l, &params, image, PTA_ERROR_BAD_IMAGE, "/tmp: is no regular file");
    params.initrd_path = "/dev/zero";
    assert_refused(l, &params, image, PTA_ERROR_BAD_IMAGE, "/dev/zero: is no regular file");
    make_initrd(l, "", 0);
    params.initrd_path = l->initrd;
    assert_refused(l, &params, image, PTA_ERROR_BAD_IMAGE, "is empty");
    assert_int_equal(truncate(l->initrd, RAM - 16 * (off_t)PTA_MIB), 0);
    assert_refused(l, &params, image, PTA_ERROR_BAD_IMAGE, "no free RAM");
}

static void vmlinux_loads(void **state)
{
    Load *l = *state;
    g_autoptr(GByteArray) image = vmlinux();
    PtaBootParams params = default_params();
    assert_loads(l, &params, image);
    assert_kernel_is_there(l);
    assert_long_mode(l, KERNEL + 4);
    assert_zero_page(l, 0);
}

static void cmdline_is_bounded(void **state)
{
    Load *l = *state;
    g_autofree char *line = g_strnfill(2047, 'x');
    g_autoptr(GByteArray) image = bzimage("gzip");
    PtaBootParams params = default_params();
    params.cmdline = line;
    assert_loads(l, &params, image);
    assert_guest_text(l, PTA_BOOT_CMDLINE, line);
    pta_put_le32(image->data + 0x238, 2046);
    assert_refused(l, &params, image, PTA_ERROR_BAD_DESCRIPTION, "takes at most 2046");
    g_autofree char *huge = g_strnfill(65536, 'x');
    params.cmdline = huge;
    pta_put_le32(image->data + 0x238, UINT32_MAX);
    assert_refused(l, &params, image, PTA_ERROR_BAD_DESCRIPTION, "pass the limit of 65535");
    params.cmdline = "a\nb";
    assert_refused(l, &params, image, PTA_ERROR_BAD_DESCRIPTION, "a\\nb");
    params.cmdline = NULL;
    assert_loads(l, &params, image);
    assert_int_equal(guest_word(l, PTA_BOOT_CMDLINE, 1), 0);
    params.cmdline = "quiet";
    params.mmio_cmdline = true;
    assert_loads(l, &params, image);
    assert_guest_text(l, PTA_BOOT_CMDLINE,
                      "quiet virtio_mmio.device=4K@0xd0000000:5 "
                      "virtio_mmio.device=4K@0xd0001000:16 virtio_mmio.device=4K@0xd0002000:6");
}

static void bzimage_header_lies(void **state)
{
    Load *l = *state;
    static const struct {
        size_t offset;
        unsigned size;
        uint32_t value;
        const char *text;
    } lies[] = {
        { 0x206, 2, 0x0206, "has boot protocol 2.06" },
        { 0x211, 1, 0, "is a zImage" },
        { 0x201, 1, 0x20, "setup header that ends at 0x222" },
        { 0x201, 1, 0xff, "setup header that ends at 0x301" },
        { 0x248, 4, UINT32_MAX, "is it truncated?" },
        { 0x24c, 4, UINT32_MAX, "is it truncated?" },
        { 0x24c, 4, 0, "payload of 0 bytes" },
        { 0x24c, 4, 7, "payload of 7 bytes" },
        { 0x248, 4, 0, "starts with 00 00 00 00" },
        { 0x1f1, 1, 255, "is it truncated?" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autoptr(GByteArray) image = bzimage("gzip");
        uint8_t *p = image->data + lies[i].offset;
        if (lies[i].size == 1) {
            p[0] = (uint8_t)lies[i].value;
        } else if (lies[i].size == 2) {
            pta_put_le16(p, (uint16_t)lies[i].value);
        } else {
            pta_put_le32(p, lies[i].value);
        }
        assert_bad(l, image, lies[i].text);
    }
    /* Cut off anywhere, it is refused. */
    g_autoptr(GByteArray) whole = bzimage("lz4");
    for (guint len = 0; len < whole->len; len += 7) {
        g_autoptr(GByteArray) part = g_byte_array_append(g_byte_array_new(), whole->data, len);
        PtaBootParams params = default_params();
        assert_false(load(l, &params, part));
        assert_true(g_error_matches(l->error, PTA_ERROR, PTA_ERROR_BAD_IMAGE));
    }
}

static void payload_lies(void **state)
{
    Load *l = *state;
    static const char *const formats[] = { "gzip", "xz", "lzma", "zstd", "lz4", "bzip2" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(GByteArray) elf = vmlinux();
        g_autoptr(GByteArray) payload = fixture_pack(formats[i], elf->data, elf->len);
        uint8_t *size = payload->data + payload->len - 4;

        pta_put_le32(size, UINT32_MAX);
        g_autoptr(GByteArray) bomb = fixture_bzimage(payload->data, payload->len);
        assert_bad(l, bomb, "expected 1 to 67108864 (the guest's RAM)");
        pta_put_le32(size, 0);
        g_autoptr(GByteArray) nothing = fixture_bzimage(payload->data, payload->len);
        assert_bad(l, nothing, "unpacks to 0 bytes");
        /* The data is right, its size is not. */
        pta_put_le32(size, elf->len + 1);
        g_autoptr(GByteArray) more = fixture_bzimage(payload->data, payload->len);
        assert_bad(l, more, "cannot be used: ");
        pta_put_le32(size, elf->len - 1);
        g_autoptr(GByteArray) less = fixture_bzimage(payload->data, payload->len);
        assert_bad(l, less, "cannot be used: ");
        /* The size is right, the data ends early. */
        g_autoptr(GByteArray) cut =
            g_byte_array_append(g_byte_array_new(), payload->data, payload->len / 2);
        g_byte_array_set_size(cut, cut->len + 4);
        pta_put_le32(cut->data + cut->len - 4, elf->len);
        g_autoptr(GByteArray) early = fixture_bzimage(cut->data, cut->len);
        assert_bad(l, early, "cannot be used: ");
    }
    static const char lzo[] = "\x89LZO....";
    g_autoptr(GByteArray) unsupported = fixture_bzimage((const uint8_t *)lzo, sizeof(lzo) - 1);
    assert_bad(l, unsupported, "is packed by lzo");
    /* It unpacks, but to something else. */
    static const uint8_t rubbish[200] = "this is no kernel";
    g_autoptr(GByteArray) payload = fixture_pack("gzip", rubbish, sizeof(rubbish));
    g_autoptr(GByteArray) image = fixture_bzimage(payload->data, payload->len);
    assert_bad(l, image, "the payload of 200 bytes is not an ELF file");
}

/* ---- ELF ---- */

static void put_phdr64(GByteArray *image, size_t i, size_t field, uint64_t value)
{
    pta_put_le64(image->data + fixture_elf_phdr(true, i) + field, value);
}

static void elf_lies(void **state)
{
    Load *l = *state;
    enum { OFFSET = 8, VADDR = 16, PADDR = 24, FILESZ = 32, MEMSZ = 40 };
    static const struct {
        size_t index, field;
        uint64_t value;
        const char *text;
    } lies[] = {
        { 0, OFFSET, 1 << 20, "behind its end" },
        { 0, OFFSET, UINT64_MAX, "behind its end" },
        { 0, FILESZ, UINT64_MAX, "behind its end" },
        { 0, MEMSZ, 1, "but 0x1 in memory" },
        { 0, PADDR, UINT64_MAX - 3, "passes the end of the address space" },
        { 1, PADDR, RAM - 4, "no free RAM" },
        { 1, PADDR, RAM, "no free RAM" },
        { 1, PADDR, PTA_BOOT_4G - 4, "no free RAM" },
        { 1, MEMSZ, RAM, "no free RAM" },
        { 1, MEMSZ, UINT64_MAX, "passes the end of the address space" },
        { 1, PADDR, KERNEL + 8, "overlaps a segment of the kernel" },
        { 1, PADDR, 0x9f800, "no free RAM" }, /* into the EBDA */
        { 1, PADDR, 0xe8000, "no free RAM" }, /* into the ACPI tables */
        { 1, PADDR, PTA_BOOT_ZERO_PAGE, "overlaps a segment of the kernel" },
        { 1, PADDR, PTA_BOOT_GDT - 0x10, "overlaps a segment of the kernel" },
        { 1, PADDR, PTA_BOOT_STACK + 0x1000, "overlaps a segment of the kernel" },
        { 1, PADDR, PTA_BOOT_CMDLINE, "overlaps a segment of the kernel" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autoptr(GByteArray) image = vmlinux();
        put_phdr64(image, lies[i].index, lies[i].field, lies[i].value);
        assert_bad(l, image, lies[i].text);
    }
    static const struct {
        size_t offset;
        uint8_t value;
        const char *text;
    } header[] = {
        { EI_CLASS, 3, "ELF class 3" },
        { EI_DATA, ELFDATA2MSB, "ELF byte order 2" },
        { 16, ET_DYN, "ELF type 3" },
        { 18, EM_386, "ELF machine 3, expected 62" },
        { 24, 0xff, "starts at 0x10000ff, which is in none" }, /* e_entry */
        { 54, 32, "program headers of 32 bytes" },
        { 56, 0, "0 program headers" },
        { 56, 200, "200 program headers, expected 1 to 128" },
        { 56, 100, "100 program headers at 0x40, behind its end" },
        { 39, 0xff, "behind its end" }, /* e_phoff */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(header); i++) {
        g_autoptr(GByteArray) image = vmlinux();
        image->data[header[i].offset] = header[i].value;
        assert_bad(l, image, header[i].text);
    }
    for (guint len = 4; len < 64; len++) {
        g_autoptr(GByteArray) image = vmlinux();
        g_byte_array_set_size(image, len);
        assert_bad(l, image, len < EI_NIDENT ? "not an ELF file" : "within its ELF header");
    }
    const FixtureSegment none[] = { { PT_NOTE, 0, 0, 4, "none", 4 } };
    g_autoptr(GByteArray) empty = fixture_elf(true, 0, none, 1);
    assert_bad(l, empty, "no segment to load");
}

static void virtual_entry_is_translated(void **state)
{
    Load *l = *state;
    g_autoptr(GByteArray) image = vmlinux();
    pta_put_le64(image->data + 24, 0xffffffff81000008);
    PtaBootParams params = default_params();
    assert_loads(l, &params, image);
    assert_long_mode(l, KERNEL + 8);
}

static void unknown_images_are_refused(void **state)
{
    Load *l = *state;
    g_autoptr(GByteArray) empty = g_byte_array_new();
    assert_bad(l, empty, "is no kernel image that is known");
    g_autoptr(GByteArray) script =
        g_byte_array_append(g_byte_array_new(), (const guint8 *)"#!/bin/sh\n", 10);
    assert_bad(l, script, "is no kernel image that is known");
    const FixtureSegment segments[] = { { PT_LOAD, KERNEL, KERNEL, 4, "code", 4 } };
    g_autoptr(GByteArray) elf32 = fixture_elf(false, KERNEL, segments, 1);
    assert_bad(l, elf32, "32-bit ELF file with neither");
}

/* ---- PVH ---- */

static void assert_flat32(Load *l, uint64_t rip)
{
    const PtaX86Regs *r = &l->bsp.regs;
    assert_int_equal(r->rip, rip);
    assert_int_equal(r->cr0, 0x11);
    assert_int_equal(r->cr4, 0);
    assert_int_equal(r->efer, 0);
    assert_int_equal(r->rflags, 2);
    for (size_t i = 0; i < PTA_X86_N_SEGS; i++) {
        assert_int_equal(r->seg[i].base, 0);
        assert_int_equal(r->seg[i].limit, UINT32_MAX);
        assert_int_equal(r->seg[i].attrs, i == PTA_X86_CS ? 0xc09b : 0xc093);
    }
    assert_int_equal(r->tr.attrs, 0x8b);
    assert_int_equal(guest_word(l, r->gdtr.base + 0x10, 8), 0x00cf9b000000ffff);
}

static void pvh_loads(void **state)
{
    Load *l = *state;
    make_initrd(l, "module", 100);
    for (int variant = 0; variant < 4; variant++) {
        bool is64 = variant & 1;
        g_autoptr(GByteArray) note = fixture_pvh_note(KERNEL + 2, variant & 2 ? 8 : 4);
        const FixtureSegment segments[] = {
            { PT_NOTE, 0, 0, note->len, note->data, note->len },
            { PT_LOAD, KERNEL, KERNEL, 0x1000, text_segment, sizeof(text_segment) },
        };
        g_autoptr(GByteArray) image = fixture_elf(is64, KERNEL, segments, G_N_ELEMENTS(segments));
        PtaBootParams params = default_params();
        params.initrd_path = l->initrd;
        assert_loads(l, &params, image);
        assert_flat32(l, KERNEL + 2);
        uint64_t info = l->bsp.regs.gpr[PTA_X86_RBX];
        assert_int_equal(guest_word(l, info, 4), 0x336ec578);
        assert_int_equal(guest_word(l, info + 4, 4), 1);
        assert_int_equal(guest_word(l, info + 12, 4), 1);
        uint64_t mod = guest_word(l, info + 16, 8);
        assert_guest_text(l, guest_word(l, mod, 8), "module");
        assert_int_equal(guest_word(l, mod + 8, 8), 100);
        assert_guest_text(l, guest_word(l, info + 24, 8), "console=ttyS0 quiet");
        assert_rsdp(l, guest_word(l, info + 32, 8));
        assert_int_equal(guest_word(l, info + 48, 4), 4);
        uint64_t map = guest_word(l, info + 40, 8);
        assert_int_equal(guest_word(l, map + 3 * 24, 8), 0x100000);
        assert_int_equal(guest_word(l, map + 3 * 24 + 8, 8), RAM - 0x100000);
        assert_int_equal(guest_word(l, map + 3 * 24 + 16, 4), 1);
    }
}

static void pvh_entry_outside_is_refused(void **state)
{
    Load *l = *state;
    g_autoptr(GByteArray) note = fixture_pvh_note(KERNEL + sizeof(text_segment), 8);
    const FixtureSegment segments[] = {
        { PT_NOTE, 0, 0, note->len, note->data, note->len },
        { PT_LOAD, KERNEL, KERNEL, 0x1000, text_segment, sizeof(text_segment) },
    };
    g_autoptr(GByteArray) image = fixture_elf(true, KERNEL, segments, G_N_ELEMENTS(segments));
    assert_bad(l, image, "PVH entry at 0x1000017");
}

/* A note that lies about its lengths is no note; the image is then a plain vmlinux. */
static void broken_notes_are_ignored(void **state)
{
    Load *l = *state;
    for (size_t field = 0; field < 8; field += 4) {
        g_autoptr(GByteArray) note = fixture_pvh_note(KERNEL + 2, 8);
        pta_put_le32(note->data + field, UINT32_MAX - 2);
        const FixtureSegment segments[] = {
            { PT_NOTE, 0, 0, note->len, note->data, note->len },
            { PT_LOAD, KERNEL, KERNEL, 0x1000, text_segment, sizeof(text_segment) },
        };
        g_autoptr(GByteArray) image = fixture_elf(true, KERNEL, segments, G_N_ELEMENTS(segments));
        PtaBootParams params = default_params();
        assert_loads(l, &params, image);
        assert_long_mode(l, KERNEL);
    }
}

/* ---- multiboot ---- */

typedef struct MultibootHeader {
    uint32_t flags, header_addr, load_addr, load_end, bss_end, entry;
} MultibootHeader;

static void put_multiboot(uint8_t *p, const MultibootHeader *h)
{
    pta_put_le32(p, 0x1badb002);
    pta_put_le32(p + 4, h->flags);
    pta_put_le32(p + 8, -(0x1badb002 + h->flags));
    pta_put_le32(p + 12, h->header_addr);
    pta_put_le32(p + 16, h->load_addr);
    pta_put_le32(p + 20, h->load_end);
    pta_put_le32(p + 24, h->bss_end);
    pta_put_le32(p + 28, h->entry);
}

static void assert_multiboot_info(Load *l, uint64_t end)
{
    assert_int_equal(l->bsp.regs.gpr[PTA_X86_RAX], 0x2badb002);
    uint64_t mbi = l->bsp.regs.gpr[PTA_X86_RBX];
    assert_int_equal(guest_word(l, mbi, 4), 1 | 4 | 8 | 64 | 512);
    assert_int_equal(guest_word(l, mbi + 4, 4), 639);
    assert_int_equal(guest_word(l, mbi + 8, 4), RAM / 1024 - 1024);
    assert_guest_text(l, guest_word(l, mbi + 16, 4), "a_kernel console=ttyS0 quiet");
    assert_int_equal(guest_word(l, mbi + 20, 4), 1);
    uint64_t mod = guest_word(l, mbi + 24, 4);
    uint64_t start = guest_word(l, mod, 4);
    assert_int_equal(start, pta_align_up(end, 4096));
    assert_int_equal(guest_word(l, mod + 4, 4), start + 20);
    assert_guest_text(l, start, "NR_CPUS=2\n");
    g_autofree char *name = g_path_get_basename(l->initrd);
    assert_guest_text(l, guest_word(l, mod + 8, 4), name);
    assert_int_equal(guest_word(l, mbi + 44, 4), 4 * 24);
    uint64_t map = guest_word(l, mbi + 48, 4);
    assert_int_equal(guest_word(l, map + 3 * 24, 4), 20);
    assert_int_equal(guest_word(l, map + 3 * 24 + 4, 8), 0x100000);
    assert_int_equal(guest_word(l, map + 3 * 24 + 12, 8), RAM - 0x100000);
    assert_int_equal(guest_word(l, map + 3 * 24 + 20, 4), 1);
}

static void multiboot_elf_loads(void **state)
{
    Load *l = *state;
    make_initrd(l, "NR_CPUS=2\n", 20);
    uint8_t text[64] = "code";
    put_multiboot(text + 32, &(MultibootHeader){ .flags = 0 });
    const FixtureSegment segments[] = { { PT_LOAD, 0x400000, 0x400000, 0x2345, text, 64 } };
    /* In an ELF file of 32 bits, as kvm-unit-tests have it, and in one of 64. */
    for (int is64 = 0; is64 < 2; is64++) {
        g_autoptr(GByteArray) image = fixture_elf(is64, 0x400004, segments, 1);
        PtaBootParams params = default_params();
        params.initrd_path = l->initrd;
        assert_loads(l, &params, image);
        assert_flat32(l, 0x400004);
        assert_guest_text(l, 0x400000, "code");
        assert_multiboot_info(l, 0x402345);
    }
}

static GByteArray *aout_image(const MultibootHeader *h)
{
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, 0x1000);
    memset(image->data, 0x90, image->len);
    put_multiboot(image->data + 0x100, h);
    return image;
}

static const MultibootHeader good_aout = { .flags = 0x10003,
                                           .header_addr = 0x1000c0,
                                           .load_addr = 0x100000,
                                           .load_end = 0x100800,
                                           .bss_end = 0x101000,
                                           .entry = 0x100200 };

static void multiboot_by_addresses_loads(void **state)
{
    Load *l = *state;
    make_initrd(l, "NR_CPUS=2\n", 20);
    g_autoptr(GByteArray) image = aout_image(&good_aout);
    PtaBootParams params = default_params();
    params.initrd_path = l->initrd;
    assert_loads(l, &params, image);
    assert_flat32(l, 0x100200);
    assert_int_equal(guest_word(l, 0x1000c0, 4), 0x1badb002);
    assert_int_equal(guest_word(l, 0x1007ff, 1), 0x90);
    assert_guest_zero(l, 0x100800, 0x800);
    assert_multiboot_info(l, 0x101000);

    /* Zeros: to the end of the file, no bss. */
    MultibootHeader h = good_aout;
    h.load_end = h.bss_end = 0;
    g_autoptr(GByteArray) all = aout_image(&h);
    assert_loads(l, &params, all);
    assert_int_equal(guest_word(l, 0x100000 + 0xfbf, 1), 0x90);
    assert_multiboot_info(l, 0x100fc0);
}

static void multiboot_lies(void **state)
{
    Load *l = *state;
    const uint32_t good = 0x10003;
    const struct {
        MultibootHeader h;
        const char *text;
    } lies[] = {
        { { 0x10007, 0x1000c0, 0x100000, 0, 0, 0x100200 }, "of which 0x4 cannot be served" },
        { { 0x18003, 0x1000c0, 0x100000, 0, 0, 0x100200 }, "of which 0x8000 cannot be served" },
        { { good, 0xfffff, 0x100000, 0, 0, 0x100200 }, "would start before the file" },
        { { good, 0x100200, 0x100000, 0, 0, 0x100200 }, "would start before the file" },
        { { good, 0x1000c0, 0x100000, 0xfffff, 0, 0x100200 }, "but has 0xfc0 bytes for it" },
        { { good, 0x1000c0, 0x100000, 0x100fc1, 0, 0x100200 }, "but has 0xfc0 bytes for it" },
        { { good, 0x1000c0, 0x100000, 0x100800, 0x1007ff, 0x100200 }, "bss that ends" },
        { { good, 0x1000c0, 0x100000, 0x100800, 0, 0x100800 }, "outside of what is loaded" },
        { { good, 0x1000c0, 0x100000, 0x100800, 0, 0xfffff }, "outside of what is loaded" },
        { { good, 0x1000c0, 0x100000, 0, 0xffffffff, 0x100200 }, "no free RAM" },
        { { good, 0xffff00c0, 0xffff0000, 0, 0, 0xffff0200 }, "no free RAM" },
        { { good, 0x100c0, 0x10000, 0, 0, 0x10200 }, "overlaps the multiboot information" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autoptr(GByteArray) image = aout_image(&lies[i].h);
        assert_bad(l, image, lies[i].text);
    }
    /* Outside of the first 8 KiB, or not on a word, or with a wrong sum, it is none. */
    g_autoptr(GByteArray) late = g_byte_array_new();
    g_byte_array_set_size(late, 16384);
    memset(late->data, 0, late->len);
    put_multiboot(late->data + 8192 - 8, &good_aout);
    assert_bad(l, late, "is no kernel image");
    g_autoptr(GByteArray) odd = aout_image(&good_aout);
    memmove(odd->data + 0x102, odd->data + 0x100, 64);
    memset(odd->data + 0x100, 0, 2);
    assert_bad(l, odd, "is no kernel image");
    g_autoptr(GByteArray) sum = aout_image(&good_aout);
    sum->data[0x108]++;
    assert_bad(l, sum, "is no kernel image");
    g_autoptr(GByteArray) cut = aout_image(&good_aout);
    g_byte_array_set_size(cut, 0x100 + 31);
    assert_bad(l, cut, "ends within its multiboot header");
    g_autoptr(GByteArray) no_elf = aout_image(&(MultibootHeader){ .flags = 3 });
    assert_bad(l, no_elf, "the multiboot image of 4096 bytes is not an ELF file");
}

/* ---- memory ---- */

static void small_memory_is_refused(void **state)
{
    Load *l = *state;
    g_autoptr(PtaMemory) tiny = fixture_ram(0x80000);
    g_autoptr(GByteArray) image = vmlinux();
    PtaBootParams params = default_params();
    assert_false(pta_boot_load_image(tiny, &params, image->data, image->len, &l->bsp, &l->error));
    assert_true(g_error_matches(l->error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    assert_non_null(strstr(l->error->message, "expected at least 1M at 0"));
    g_clear_error(&l->error);
    g_autoptr(PtaMemory) small = fixture_ram(PTA_MIB);
    assert_false(pta_boot_load_image(small, &params, image->data, image->len, &l->bsp, &l->error));
    assert_non_null(strstr(l->error->message, "no free RAM"));
}

static void memory_above_4g_is_told(void **state)
{
    Load *l = *state;
    const PtaRamRange ranges[] = { { 0, RAM }, { PTA_BOOT_4G, RAM }, { PTA_BOOT_4G + RAM, RAM } };
    g_autoptr(PtaMemory) mem = pta_memory_new(ranges, G_N_ELEMENTS(ranges), &l->error);
    PtaBootMap map;
    assert_true(pta_boot_map_init(&map, mem, &l->error));
    assert_int_equal(map.n, 5);
    assert_int_equal(map.entry[4].gpa, PTA_BOOT_4G);
    assert_int_equal(map.entry[4].size, 2 * RAM); /* neighbours are one */
    assert_true(pta_boot_map_is_ram(&map, PTA_BOOT_4G + RAM - 1, 2));
    assert_false(pta_boot_map_is_ram(&map, RAM - 1, 2));
    assert_false(pta_boot_map_is_ram(&map, UINT64_MAX, 2));
    assert_false(pta_boot_map_is_ram(&map, 0x9fbff, 2));
}

/* ---- files ---- */

static void files_are_read_anew(void **state)
{
    Load *l = *state;
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("partita-kernel-XXXXXX", &path, NULL);
    assert_true(fd >= 0);
    g_autoptr(GByteArray) image = bzimage("gzip");
    assert_true(pta_write_full(fd, image->data, image->len));
    PtaBootParams params = default_params();
    params.kernel_path = path;
    bool ok = pta_boot_load(l->mem, &params, &l->bsp, &l->error);
    assert_null(l->error);
    assert_true(ok);
    assert_kernel_is_there(l);
    /* The same path with another kernel in it: that one is booted. */
    g_autoptr(GByteArray) other = aout_image(&good_aout);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_true(pta_write_full(fd, other->data, other->len));
    close(fd);
    assert_true(pta_boot_load(l->mem, &params, &l->bsp, &l->error));
    assert_flat32(l, 0x100200);
    unlink(path);
    assert_false(pta_boot_load(l->mem, &params, &l->bsp, &l->error));
    assert_true(g_error_matches(l->error, PTA_ERROR, PTA_ERROR_HOST));
    assert_non_null(strstr(l->error->message, path));
}

#define T(name) cmocka_unit_test_setup_teardown(name, load_setup, load_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bzimage_of_each_format_loads),
        T(large_payload_unpacks),
        T(initrd_is_high_and_below_the_limit),
        T(initrd_is_refused),
        T(vmlinux_loads),
        T(cmdline_is_bounded),
        T(bzimage_header_lies),
        T(payload_lies),
        T(elf_lies),
        T(virtual_entry_is_translated),
        T(unknown_images_are_refused),
        T(pvh_loads),
        T(pvh_entry_outside_is_refused),
        T(broken_notes_are_ignored),
        T(multiboot_elf_loads),
        T(multiboot_by_addresses_loads),
        T(multiboot_lies),
        T(small_memory_is_refused),
        T(memory_above_4g_is_told),
        T(files_are_read_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
