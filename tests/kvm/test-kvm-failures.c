/*
 * A kernel that fails: each ioctl of a whole partition's life is made to fail in turn. What comes of it
 * is an error that names the ioctl, or a warning that does where the contract has no error; nothing
 * leaks, nothing waits for ever, and nothing ends the process.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include "tests/kvm/kvm-host.h"

#include "src/kvm/kvm.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_VPS 2
#define RAM   UINT64_C(0x10000)
#define ROM   UINT64_C(0x20000)
#define LATER UINT64_C(0x40000)
#define CODE  0x1000
#define PORT  0x10
#define BELL  UINT64_C(0xd0000050)

/* ---- the kernel ---- */

static PtaKvmIoctlFn *host_ioctl;
static unsigned fail_at, n_ioctls; /* the fail_at'th fails */
static unsigned long failed;       /* which it was; 0: none yet */
static int fail_with;

static int failing_ioctl(int fd, unsigned long request, void *arg)
{
    if (++n_ioctls == fail_at) {
        failed = request;
        errno = fail_with;
        return -1;
    }
    return host_ioctl(fd, request, arg);
}

/* By number, for those whose failure somebody has to be told of. */
static const char *name_of(unsigned long request)
{
    static const struct {
        unsigned long request;
        const char *name;
    } names[] = {
#define N(name) { name, #name }
        N(KVM_GET_API_VERSION),
        N(KVM_CREATE_VM),
        N(KVM_GET_VCPU_MMAP_SIZE),
        N(KVM_GET_SUPPORTED_CPUID),
        N(KVM_SET_IDENTITY_MAP_ADDR),
        N(KVM_SET_TSS_ADDR),
        N(KVM_ENABLE_CAP),
        N(KVM_X86_SET_MSR_FILTER),
        N(KVM_SET_USER_MEMORY_REGION),
        N(KVM_CREATE_VCPU),
        N(KVM_SET_CPUID2),
        N(KVM_GET_MSR_INDEX_LIST),
        N(KVM_GET_MSRS),
        N(KVM_SET_MSRS),
        N(KVM_GET_REGS),
        N(KVM_SET_REGS),
        N(KVM_GET_SREGS),
        N(KVM_SET_SREGS),
        N(KVM_GET_SREGS2),
        N(KVM_SET_SREGS2),
        N(KVM_GET_XSAVE),
        N(KVM_SET_XSAVE),
        N(KVM_GET_XSAVE2),
        N(KVM_GET_XCRS),
        N(KVM_SET_XCRS),
        N(KVM_GET_LAPIC),
        N(KVM_SET_LAPIC),
        N(KVM_GET_VCPU_EVENTS),
        N(KVM_SET_VCPU_EVENTS),
        N(KVM_GET_DEBUGREGS),
        N(KVM_SET_DEBUGREGS),
        N(KVM_GET_MP_STATE),
        N(KVM_SET_MP_STATE),
        N(KVM_RUN),
        N(KVM_SET_GSI_ROUTING),
        N(KVM_IRQFD),
        N(KVM_IOEVENTFD),
        N(KVM_REGISTER_COALESCED_MMIO),
        N(KVM_UNREGISTER_COALESCED_MMIO),
        N(KVM_GET_CLOCK),
        N(KVM_SET_CLOCK),
        N(KVM_NMI),
        N(KVM_SIGNAL_MSI),
        N(KVM_GET_DIRTY_LOG),
        N(KVM_CLEAR_DIRTY_LOG),
        N(KVM_RESET_DIRTY_RINGS),
        N(KVM_SET_GUEST_DEBUG),
        N(KVM_SET_TSC_KHZ),
#undef N
    };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i].request == request) {
            return names[i].name;
        }
    }
    return NULL; /* a question whose failure is an answer */
}

static GString *warnings;

static void keep_warning(const gchar *domain, GLogLevelFlags level, const gchar *text,
                         gpointer data)
{
    (void)domain, (void)level, (void)data;
    g_string_append_printf(warnings, "%s\n", text);
}

/* ---- a partition's life ---- */

typedef struct Life {
    PtaBackend *be;
    PtaBackendVp *vps[N_VPS];
    PtaPlatform platform;
    PtaCpuidTable cpuid;
    uint8_t *ram;
    int fd;
    unsigned n_outs;
    uint64_t n_dirty;
    PtaExit exit;
} Life;

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    (void)opaque, (void)gpa, (void)size;
    return 0;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)opaque, (void)gpa, (void)size, (void)value;
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    (void)opaque, (void)port, (void)size;
    return 0;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    (void)port, (void)size, (void)value;
    Life *l = opaque;
    l->n_outs++;
    l->be->ops->vp_kick(l->vps[0]);
}

static bool msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static bool msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static bool hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    (void)opaque, (void)vp, (void)regs;
    return false;
}

static void eoi(void *opaque, uint8_t vector)
{
    (void)opaque, (void)vector;
}

static void on_dirty(void *opaque, uint64_t gpa, uint64_t bits)
{
    Life *l = opaque;
    l->n_dirty += gpa < LATER ? (uint64_t)__builtin_popcountll(bits) : 0;
}

static bool make(Life *l, GError **error)
{
    const PtaBackendOps *ops = &pta_kvm_backend;
    PtaX86Identity identity;
    PtaCpuidParams cp = {
        .model = "x86-64-v1",
        .hypervisor = PTA_HYPERVISOR_HYPERV,
        .n_vps = N_VPS,
        .tsc_hz = ops->tsc_hz(NULL),
        .apic_hz = ops->apic_hz(NULL),
        .supported = ops->cpu_features(),
        .identity = &identity,
    };
    ops->cpu_identity(PTA_HYPERVISOR_HYPERV, &identity);
    if (!pta_cpuid_build(&l->cpuid, &cp, error)) {
        return false;
    }
    PtaBackendParams bp = {
        .n_vps = N_VPS,
        .cpuid = &l->cpuid,
        .platform = &l->platform,
        .hypervisor = PTA_HYPERVISOR_HYPERV,
        .stepper = &pta_soft_backend,
    };
    l->be = ops->create(&bp, error);
    if (!l->be || !ops->map(l->be, 0, RAM, l->ram, 7, error) ||
        !ops->map(l->be, ROM, PTA_PAGE_SIZE, l->ram + RAM, PTA_MAP_READ | PTA_MAP_EXEC, error)) {
        return false;
    }
    for (unsigned i = 0; i < N_VPS; i++) {
        l->vps[i] = ops->vp_create(l->be, i, error);
        if (!l->vps[i]) {
            return false;
        }
    }
    return ops->map(l->be, LATER, PTA_PAGE_SIZE, l->ram + RAM + PTA_PAGE_SIZE, 7, error);
}

/* VP 0 writes to memory and to the port, in real mode, until it is kicked. */
static bool set_states(Life *l, GError **error)
{
    static const uint8_t code[] = { 0xff, 0x07, 0xe6, PORT, 0xeb, 0xfa }; /* inc [bx]; out; jmp */
    memcpy(l->ram + CODE, code, sizeof(code));
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        pta_x86_state_reset(s, i, i == 0);
        s->regs.seg[PTA_X86_CS].selector = 0;
        s->regs.seg[PTA_X86_CS].base = 0;
        s->regs.rip = CODE;
        s->regs.gpr[PTA_X86_RBX] = 0x2000;
        if (!l->be->ops->vp_set_state(l->vps[i], s, error)) {
            return false;
        }
    }
    return true;
}

static bool take_short_cuts(Life *l, GError **error)
{
    const PtaBackendOps *ops = l->be->ops;
    PtaIoeventfd io = { .fd = l->fd, .addr = BELL, .size = 4, .match = true, .value = 1 };
    ops->route(l->be, 3, 0xfee00000, 0x41);
    return ops->ioeventfd(l->be, &io, true, error) && ops->irqfd(l->be, 3, l->fd, true, error) &&
           ops->coalesce(l->be, true, 0x70, 1, true, error) &&
           ops->coalesce(l->be, true, 0x70, 1, false, error) &&
           ops->irqfd(l->be, 3, l->fd, false, error) && ops->ioeventfd(l->be, &io, false, error);
}

static bool run(Life *l, GError **error)
{
    const PtaBackendOps *ops = l->be->ops;
    ops->clock_start(l->be);
    ops->vp_run(l->vps[0], &l->exit);
    ops->clock_ns(l->be);
    ops->clock_stop(l->be);
    return l->exit.reason == PTA_EXIT_INTERRUPTED ||
           pta_throw(error, PTA_ERROR_HOST, "%s", l->exit.error.text);
}

static bool log_dirty(Life *l, GError **error)
{
    const PtaBackendOps *ops = l->be->ops;
    if (!ops->dirty_start(l->be, on_dirty, l, error)) {
        return false;
    }
    bool ok = run(l, error);
    ops->dirty_fetch(l->be, 0, RAM);
    ops->dirty_stop(l->be);
    return ok;
}

static bool live(Life *l, GError **error)
{
    const PtaBackendOps *ops = &pta_kvm_backend;
    PtaGuestDebug debug = { .enabled = true, .sw_breakpoints = true };
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    if (!ops->probe(error) || !make(l, error) || !set_states(l, error) ||
        !take_short_cuts(l, error) || !run(l, error) || !log_dirty(l, error)) {
        return false;
    }
    ops->msi(l->be, 0xfee00000, 0x55);
    ops->nmi(l->be, 1);
    ops->vp_set_debug(l->vps[0], &debug);
    if (!run(l, error)) {
        return false;
    }
    debug.enabled = false;
    ops->vp_set_debug(l->vps[0], &debug);
    ops->vp_get_state(l->vps[0], s);
    return ops->vp_set_state(l->vps[0], s, error) && ops->reset(l->be, error) &&
           ops->unmap(l->be, LATER, PTA_PAGE_SIZE, error) && ops->unmap(l->be, 0, RAM, error);
}

static void end(Life *l)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        if (l->vps[i]) {
            l->be->ops->vp_destroy(l->vps[i]);
        }
    }
    if (l->be) {
        l->be->ops->destroy(l->be);
    }
}

static unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

/* One life in which the n'th ioctl fails; false: it had fewer. */
static bool one_life(Life *l, unsigned n, int errnum, GError **error)
{
    memset(l->ram, 0, RAM);
    *l = (Life){ .ram = l->ram, .fd = l->fd };
    l->platform = (PtaPlatform){ l,        mmio_read, mmio_write, pio_read, pio_write,
                                 msr_read, msr_write, hypercall,  eoi };
    fail_at = n;
    fail_with = errnum;
    n_ioctls = 0;
    failed = 0;
    g_string_truncate(warnings, 0);
    live(l, error);
    end(l);
    return n_ioctls >= n;
}

static void each_in_turn(void **unused)
{
    (void)unused;
    Life l = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    size_t size = RAM + 2 * PTA_PAGE_SIZE;
    l.ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_autoptr(GError) none = NULL;
    assert_false(one_life(&l, UINT_MAX, 0, &none)); /* nothing fails */
    if (none) {
        fail_msg("%s", none->message);
    }
    assert_true(l.n_outs >= 3);
    assert_true(l.n_dirty > 0);
    if (warnings->len > 0) {
        fail_msg("nothing fails, and yet: %s", warnings->str);
    }
    unsigned fds = count_fds(), n_told = 0, n_asked = 0;
    for (unsigned n = 1;; n++) {
        static const int errors[] = { EIO, ENOMEM, EBUSY };
        g_autoptr(GError) error = NULL;
        if (!one_life(&l, n, errors[n % G_N_ELEMENTS(errors)], &error)) {
            break;
        }
        const char *name = name_of(failed);
        bool told =
            name && ((error && strstr(error->message, name)) || strstr(warnings->str, name));
        if (name && !told) {
            fail_msg("ioctl %u, %s, fails: error \"%s\", warnings \"%s\"", n, name,
                     error ? error->message : "none", warnings->str);
        }
        if (count_fds() != fds) {
            fail_msg("ioctl %u, %s, fails: a file descriptor leaks", n, name ? name : "a question");
        }
        n_told += told;
        n_asked += !name;
    }
    print_message("# %u failures were told, %u questions stayed without an answer\n", n_told,
                  n_asked);
    assert_true(n_told > 100);
    munmap(l.ram, size);
    close(l.fd);
}

/* ---- hosts that lack something ---- */

static int lacking;    /* this capability is not there … */
static int max_vcpus;  /* … and this is the answer to KVM_CAP_MAX_VCPUS, if not 0 */
static bool no_popcnt; /* the CPU has no POPCNT */

static int lacking_ioctl(int fd, unsigned long request, void *arg)
{
    if (request == KVM_CHECK_EXTENSION && lacking != 0 && (uintptr_t)arg == (uintptr_t)lacking) {
        return 0;
    }
    if (request == KVM_CHECK_EXTENSION && max_vcpus != 0 && (uintptr_t)arg == KVM_CAP_MAX_VCPUS) {
        return max_vcpus;
    }
    int r = host_ioctl(fd, request, arg);
    if (r == 0 && request == KVM_GET_SUPPORTED_CPUID && no_popcnt) {
        struct kvm_cpuid2 *c = arg;
        for (unsigned i = 0; i < c->nent; i++) {
            if (c->entries[i].function == 1) {
                c->entries[i].ecx &= ~(1u << 23);
            }
        }
    }
    return r;
}

static void a_capability_that_lacks_is_named(void **unused)
{
    (void)unused;
    static const struct {
        int cap;
        const char *text;
    } cases[] = {
        { KVM_CAP_SPLIT_IRQCHIP,
          "/dev/kvm lacks KVM_CAP_SPLIT_IRQCHIP: Linux 4.4 or later is needed" },
        { KVM_CAP_IMMEDIATE_EXIT,
          "/dev/kvm lacks KVM_CAP_IMMEDIATE_EXIT: Linux 4.13 or later is needed" },
    };
    pta_kvm_ioctl_hook = lacking_ioctl;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        lacking = cases[i].cap;
        assert_false(pta_kvm_backend.probe(&error));
        assert_string_equal(error->message, cases[i].text);
        assert_int_equal(error->code, PTA_ERROR_KVM_MISSING_CAP);
    }
    lacking = 0;
    pta_kvm_ioctl_hook = failing_ioctl;
}

static void more_vps_than_kvm_allows(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    PtaCpuidTable cpuid = { 0 };
    PtaPlatform platform = { 0 };
    PtaBackendParams bp = { .n_vps = 4, .cpuid = &cpuid, .platform = &platform };
    unsigned fds = count_fds();
    pta_kvm_ioctl_hook = lacking_ioctl;
    max_vcpus = 3;
    assert_null(pta_kvm_backend.create(&bp, &error));
    assert_string_equal(error->message, "4 VPs; this host's KVM allows 1 to 3");
    assert_int_equal(count_fds(), fds);
    max_vcpus = 0;
    pta_kvm_ioctl_hook = failing_ioctl;
}

static void what_the_hosts_cpu_lacks_is_listed(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    pta_kvm_ioctl_hook = lacking_ioctl;
    no_popcnt = true;
    PtaCpuidParams cp = {
        .model = "x86-64-v2",
        .n_vps = 1,
        .tsc_hz = 1000000000,
        .apic_hz = 1000000000,
        .supported = pta_kvm_backend.cpu_features(),
    };
    PtaCpuidTable table;
    assert_false(pta_cpuid_build(&table, &cp, &error));
    /* Among what else a kvm_pvm lacks. */
    assert_true(g_str_has_prefix(error->message,
                                 "CPU model \"x86-64-v2\" needs what the back end lacks: popcnt"));
    no_popcnt = false;
    pta_kvm_ioctl_hook = failing_ioctl;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_in_turn),
        cmocka_unit_test(a_capability_that_lacks_is_named),
        cmocka_unit_test(more_vps_than_kvm_allows),
        cmocka_unit_test(what_the_hosts_cpu_lacks_is_listed),
    };
    pta_thread_init_main();
    if (!kvm_host_usable()) {
        return 0;
    }
    warnings = g_string_new(NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    g_log_set_handler("kvm", G_LOG_LEVEL_MASK, keep_warning, NULL);
    host_ioctl = pta_kvm_ioctl_hook;
    pta_kvm_ioctl_hook = failing_ioctl;
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    pta_kvm_ioctl_hook = host_ioctl;
    g_string_free(warnings, TRUE);
    return status;
}
