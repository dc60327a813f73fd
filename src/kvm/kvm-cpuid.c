/*
 * What CPU this host's KVM can show, and showing it. Any thread; kvm_vp_set_cpuid() as the VP is made.
 *
 * The guest's CPUID is the partition's table and nothing else: both back ends answer alike. Bits that
 * depend on registers (OSXSAVE, the size of the XSAVE area) are the kernel's to keep.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#define BIT(n)        (UINT32_C(1) << (n))
#define FEAT(f)       (UINT64_C(1) << PTA_X86_FEAT_##f)

#define LEAF_EXT      UINT32_C(0x80000001)
#define LEAF_WIDTHS   UINT32_C(0x80000008)

#define MAX_PHYS_BITS 40 /* of every model */

/* Ice Lake: leaf 15H is believed, the kernel knows that it speculates, and no erratum of the APIC timer makes
 * it turn the deadline off, as one of Skylake does. */
#define SIGNATURE_INTEL UINT32_C(0x000706e5)

/* KVM offers this MSR on any CPU, and kernels look for it on Intel's alone. */
#define LEAF7_ARCH_CAPABILITIES BIT(29)

/* What x86-64-v1 has, in EDX of leaves 1 and 80000001H. */
#define BASE_EDX     UINT32_C(0x078bb97d)
#define BASE_EXT_EDX (BIT(11) | BIT(20) | BIT(29))

enum { EAX, EBX, ECX, EDX };

/* ---- what the host has ---- */

/* KVM_GET_SUPPORTED_CPUID; NULL if there is no KVM. */
static struct kvm_cpuid2 *fetch_supported(int sys_fd)
{
    for (unsigned room = 256; room <= 4096; room *= 2) {
        struct kvm_cpuid2 *c = g_malloc0(sizeof(*c) + room * sizeof(struct kvm_cpuid_entry2));
        c->nent = room;
        if (kvm_ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, c) == 0 && c->nent <= room) {
            return c;
        }
        int errnum = errno;
        g_free(c);
        if (errnum != E2BIG) {
            g_warning("kvm: KVM_GET_SUPPORTED_CPUID: %s", g_strerror(errnum));
            break;
        }
    }
    return NULL;
}

typedef struct Host {
    struct kvm_cpuid2 *cpuid;
    bool tsc_deadline;
} Host;

static Host *host_new(void)
{
    KvmCaps caps;
    g_autoptr(GError) error = NULL;
    pta_autofd int fd = kvm_open(&caps, &error);
    if (fd < 0) {
        g_warning("kvm: %s", error->message);
    }
    struct kvm_cpuid2 *cpuid = fd >= 0 ? fetch_supported(fd) : NULL;
    if (!cpuid) {
        return NULL;
    }
    Host *h = g_new(Host, 1);
    h->cpuid = cpuid;
    h->tsc_deadline = kvm_ioctl_val(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    return h;
}

static void host_free(Host *h)
{
    if (h) {
        g_free(h->cpuid);
        g_free(h);
    }
}

/*
 * What this host has; NULL if there is no KVM. Asked once: the kernel executes CPUID for each entry,
 * which traps where the host is a guest, and that takes milliseconds. Answers that a test has made are asked for
 * anew.
 */
static const Host *host_get(void)
{
    static GMutex lock;
    static Host *known; /* LOCKED(lock) */
    static bool real;   /* LOCKED(lock): nobody made them up */
    g_mutex_lock(&lock);
    if (!known || !real || !kvm_ioctl_is_hosts()) {
        host_free(known);
        known = host_new();
        real = kvm_ioctl_is_hosts();
    }
    const Host *h = known;
    g_mutex_unlock(&lock);
    return h;
}

static uint32_t host_reg(const Host *h, uint32_t function, unsigned reg)
{
    for (unsigned i = 0; i < h->cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &h->cpuid->entries[i];
        if (e->function == function && e->index == 0) {
            const uint32_t regs[] = { e->eax, e->ebx, e->ecx, e->edx };
            return regs[reg];
        }
    }
    return 0;
}

/* ---- features ---- */

static bool host_has(const Host *h, PtaX86Feature feature)
{
    uint32_t function;
    unsigned reg, bit;
    switch (feature) {
    case PTA_X86_FEAT_BASE:
        return (~host_reg(h, 1, EDX) & BASE_EDX) == 0 &&
               (~host_reg(h, LEAF_EXT, EDX) & BASE_EXT_EDX) == 0;
    case PTA_X86_FEAT_TSC_DEADLINE:
        return h->tsc_deadline; /* older kernels leave it out of CPUID */
    case PTA_X86_FEAT_ERMS:
        return true; /* a hint */
    default:
        return pta_cpuid_feature_bit(feature, &function, &reg, &bit) &&
               (host_reg(h, function, reg) >> bit & 1);
    }
}

uint64_t kvm_cpu_features(void)
{
    const Host *h = host_get();
    if (!h) {
        return 0;
    }
    uint64_t features = 0;
    for (unsigned i = 0; i < PTA_X86_N_FEATURES; i++) {
        features |= host_has(h, (PtaX86Feature)i) ? UINT64_C(1) << i : 0;
    }
    /* AVX is of no use without its registers in XCR0. */
    if (!(features & FEAT(XSAVE)) || (host_reg(h, 0xd, EAX) & 7) != 7) {
        features &= ~(FEAT(AVX) | FEAT(AVX2) | FEAT(FMA) | FEAT(F16C));
    }
    return features;
}

/* ---- identity ---- */

static void put4(char *to, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (char)(v >> (8 * i) & 0xff);
    }
}

/*
 * Code runs on the host's CPU, so the guest should know which: the flaws that its kernel works around
 * go by vendor and signature. But only of GenuineIntel Linux takes the frequencies of TSC and APIC
 * from leaf 15H, without which it needs a PIT; so where there is no Hyper-V interface to say them,
 * other vendors' CPUs are shown as an Intel one.
 */
void kvm_cpu_identity(PtaHypervisorKind hypervisor, PtaX86Identity *identity)
{
    *identity = (PtaX86Identity){ .vendor = "GenuineIntel", .signature = SIGNATURE_INTEL };
    const Host *h = host_get();
    if (!h) {
        return;
    }
    char vendor[13] = { 0 };
    put4(vendor, host_reg(h, 0, EBX));
    put4(vendor + 4, host_reg(h, 0, EDX));
    put4(vendor + 8, host_reg(h, 0, ECX));
    bool intel = strcmp(vendor, "GenuineIntel") == 0;
    if (intel || hypervisor == PTA_HYPERVISOR_HYPERV) {
        memcpy(identity->vendor, vendor, sizeof(vendor));
        identity->signature = host_reg(h, 1, EAX);
    }
    identity->leaf7_edx = host_reg(h, 7, EDX) & PTA_X86_LEAF7_SPECULATION;
    if (strcmp(identity->vendor, "GenuineIntel") != 0) {
        identity->leaf7_edx &= ~LEAF7_ARCH_CAPABILITIES;
        identity->leaf8_8_ebx = host_reg(h, LEAF_WIDTHS, EBX) & PTA_X86_LEAF8_8_SPECULATION;
    }
    uint32_t phys = host_reg(h, LEAF_WIDTHS, EAX) & 0xff;
    identity->phys_bits = (uint8_t)(phys >= 32 ? MIN(phys, MAX_PHYS_BITS) : 36);
}

/* ---- a VP's ---- */

bool kvm_vp_set_cpuid(KvmVp *vp, GError **error)
{
    const PtaCpuidTable *t = vp->m->cpuid;
    g_autofree struct kvm_cpuid2 *c =
        g_malloc0(sizeof(*c) + t->n_leaves * sizeof(struct kvm_cpuid_entry2));
    for (unsigned i = 0; i < t->n_leaves; i++) {
        const PtaCpuidLeaf *l = &t->leaves[i];
        uint32_t out[4];
        pta_cpuid_query(t, vp->vp.index, 0, 1, l->function, l->index, out);
        c->entries[c->nent++] = (struct kvm_cpuid_entry2){
            .function = l->function,
            .index = l->indexed ? l->index : 0,
            .flags = l->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = out[0],
            .ebx = out[1],
            .ecx = out[2],
            .edx = out[3],
        };
    }
    return kvm_try(vp->fd, KVM_SET_CPUID2, c, error);
}

/* The kernel allows no other CPUID once a VP has run (Linux 5.16). */
bool kvm_cpuid_changed(PtaBackend *be, GError **error)
{
    KvmPartition *m = kvm_of(be);
    for (unsigned i = 0; i < m->n_vps; i++) {
        g_autoptr(GError) refusal = NULL;
        if (!kvm_vp_set_cpuid(m->vps[i], &refusal)) {
            return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                             "the VPs have run: what CPU they show cannot change (%s)",
                             refusal->message);
        }
    }
    return true;
}
