/*
 * The least that a VMM has to do: a guest's code in memory, one VP, KVM_RUN, and nothing else. What
 * partita is measured against in kvm.sh.
 *
 * usage: kvm-floor KERNEL   the 32-bit PVH kernel runs in 128 MiB with flat segments; what it writes to port 0x3f8 goes to
 *                           standard output, a write to port 0xf4 ends the program, all other accesses are answered
 *                           with zeros
 */
#include "config.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM (UINT64_C(128) << 20)

static void die(const char *what)
{
    fprintf(stderr, "kvm-floor: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int try(int fd, unsigned long request, uintptr_t arg, const char *what)
{
    int r = ioctl(fd, request, arg);
    if (r < 0) {
        die(what);
    }
    return r;
}

/* Its segments to where they want to be; returns the entry point. */
static uint32_t load(const char *path, uint8_t *ram)
{
    static uint8_t file[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, file, sizeof(file));
    Elf32_Ehdr eh;
    if (len < (ssize_t)sizeof(eh)) {
        die(path);
    }
    close(fd);
    memcpy(&eh, file, sizeof(eh));
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf32_Phdr ph;
        memcpy(&ph, file + eh.e_phoff + (size_t)i * sizeof(ph), sizeof(ph));
        if (ph.p_type == PT_LOAD) {
            memcpy(ram + ph.p_paddr, file + ph.p_offset, ph.p_filesz);
        }
    }
    return eh.e_entry;
}

static void set_registers(int vp, uint32_t entry)
{
    struct kvm_sregs s;
    try(vp, KVM_GET_SREGS, (uintptr_t)&s, "KVM_GET_SREGS");
    struct kvm_segment flat = {
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
    };
    s.ds = s.es = s.fs = s.gs = s.ss = flat;
    flat.type = 11;
    flat.selector = 8;
    s.cs = flat;
    s.cr0 = 0x11;
    try(vp, KVM_SET_SREGS, (uintptr_t)&s, "KVM_SET_SREGS");
    struct kvm_regs r = { .rip = entry, .rflags = 2 };
    try(vp, KVM_SET_REGS, (uintptr_t)&r, "KVM_SET_REGS");
}

static void run(int vp, struct kvm_run *run)
{
    for (;;) {
        try(vp, KVM_RUN, 0, "KVM_RUN");
        uint8_t *data = (uint8_t *)run + run->io.data_offset;
        if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
            if (run->io.port == 0xf4) {
                return;
            }
            if (run->io.port == 0x3f8 && write(STDOUT_FILENO, data, 1) != 1) {
                die("standard output");
            }
        } else if (run->exit_reason == KVM_EXIT_IO) {
            memset(data, 0, run->io.size);
        } else if (run->exit_reason == KVM_EXIT_MMIO) {
            memset(run->mmio.data, 0, sizeof(run->mmio.data));
        } else {
            fprintf(stderr, "kvm-floor: exit %u\n", run->exit_reason);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    int sys = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (argc != 2 || sys < 0) {
        die("/dev/kvm");
    }
    int vm = try(sys, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };
    try(vm, KVM_ENABLE_CAP, (uintptr_t)&split, "KVM_ENABLE_CAP");
    uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = { .memory_size = RAM,
                                                  .userspace_addr = (uintptr_t)ram };
    try(vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&region, "KVM_SET_USER_MEMORY_REGION");
    int vp = try(vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
    int size = try(sys, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *page = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vp, 0);
    if (ram == MAP_FAILED || page == MAP_FAILED) {
        die("mmap");
    }
    set_registers(vp, load(argv[1], ram));
    run(vp, page);
    return 0;
}
