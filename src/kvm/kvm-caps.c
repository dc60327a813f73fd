/* What this host's KVM has, and what is wrong where it cannot be used. Any thread. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"

/* Without these a VM cannot run: the kernel is too old, or was built without. */
static const struct {
    int cap;
    const char *name;
    const char *since;
} required[] = {
    { KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "2.6.25" },
    { KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "2.6.26" },
    { KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "2.6.33" },
    { KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "2.6.34" },
    { KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "2.6.35" },
    { KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "2.6.36" },
    { KVM_CAP_XCRS, "KVM_CAP_XCRS", "2.6.36" },
    { KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ", "2.6.40" },
    { KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER", "3.3" },
    { KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "3.5" },
    { KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", "4.4" },
    { KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "4.13" },
    { KVM_CAP_GET_MSR_FEATURES, "KVM_CAP_GET_MSR_FEATURES", "4.16" },
};

static int check(int fd, int cap)
{
    int r = kvm_ioctl_val(fd, KVM_CHECK_EXTENSION, (uintptr_t)cap);
    return MAX(r, 0);
}

/* Who may open it: the answer to the question that the error raises. */
static bool no_permission(GError **error)
{
    struct stat st;
    const struct group *group = stat(DEVICE, &st) == 0 ? getgrgid(st.st_gid) : NULL;
    if (group && st.st_mode & S_IWGRP && st.st_gid != 0) {
        return pta_throw(
            error, PTA_ERROR_HOST,
            "%s: permission denied: it is for the group \"%s\", which this user is not in", DEVICE,
            group->gr_name);
    }
    return pta_throw(error, PTA_ERROR_HOST,
                     "%s: permission denied: it has mode %03o and belongs to root", DEVICE,
                     (unsigned)st.st_mode & 0777);
}

static bool cannot_open(int errnum, GError **error)
{
    switch (errnum) {
    case EACCES:
    case EPERM:
        return no_permission(error);
    case ENOENT:
        return pta_throw(
            error, PTA_ERROR_HOST,
            "there is no %s: the CPU does not virtualise, or the module kvm_intel or kvm_amd "
            "is not loaded",
            DEVICE);
    case ENODEV:
    case ENXIO:
        return pta_throw(error, PTA_ERROR_HOST,
                         "%s is dead: the module kvm_intel or kvm_amd is not loaded", DEVICE);
    default:
        return pta_throw_errno(error, errnum, "%s", DEVICE);
    }
}

static bool check_required(int fd, GError **error)
{
    int version = kvm_ioctl_val(fd, KVM_GET_API_VERSION, 0);
    if (version < 0 && errno == ENOTTY) {
        return pta_throw(error, PTA_ERROR_HOST, "%s is not KVM's device", DEVICE);
    }
    if (version < 0) {
        return pta_throw_errno(error, errno, "%s: KVM_GET_API_VERSION", DEVICE);
    }
    if (version != KVM_API_VERSION) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: the API has version %d, expected %d", DEVICE,
                         version, KVM_API_VERSION);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(required); i++) {
        if (check(fd, required[i].cap) == 0) {
            return pta_throw(error, PTA_ERROR_KVM_MISSING_CAP,
                             "%s lacks %s: Linux %s or later is needed", DEVICE, required[i].name,
                             required[i].since);
        }
    }
    return true;
}

/* VMX (SDM vol. 3, 23.6) or SVM (APM vol. 2, 15.4). CPUID traps where the host is a guest: once. */
static bool cpu_virtualises(void)
{
    static gsize answer; /* 1: no, 2: yes */
    if (g_once_init_enter(&answer)) {
        unsigned eax, ebx, ecx, edx;
        bool vmx = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & 1u << 5;
        bool svm = __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & 1u << 2;
        g_once_init_leave(&answer, vmx || svm ? 2 : 1);
    }
    return answer == 2;
}

/* PML, as Intel calls it (SDM vol. 3, 28.3.6). */
static bool has_page_log(void)
{
    static const char *const files[] = {
        "/sys/module/kvm_intel/parameters/pml",
        "/sys/module/kvm_amd/parameters/pml",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *text = NULL;
        if (g_file_get_contents(files[i], &text, NULL, NULL) && (*text == 'Y' || *text == '1')) {
            return true;
        }
    }
    return false;
}

static void look(int fd, KvmCaps *c)
{
    int max = check(fd, KVM_CAP_MAX_VCPUS);
    int ids = check(fd, KVM_CAP_MAX_VCPU_ID);
    if (max == 0) {
        max = MAX(check(fd, KVM_CAP_NR_VCPUS), 4); /* as api.rst has it */
    }
    c->max_vps = (unsigned)(ids > 0 ? MIN(max, ids) : max);
    int slots = check(fd, KVM_CAP_NR_MEMSLOTS);
    c->max_slots = slots > 0 ? (unsigned)slots : 32;
    c->coalesced_page = (unsigned)check(fd, KVM_CAP_COALESCED_MMIO);
    c->coalesced_pio = c->coalesced_page != 0 && check(fd, KVM_CAP_COALESCED_PIO);
    c->pvm = !cpu_virtualises();
    if (!c->pvm) { /* its interpreter goes on when a ring is full, and what it writes then is lost */
        c->dirty_ring_max = (unsigned)check(fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    }
    c->manual_protect = (uint64_t)check(fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    c->page_log = has_page_log();
    c->readonly_mem = check(fd, KVM_CAP_READONLY_MEM);
    c->sregs2 = check(fd, KVM_CAP_SREGS2);
    c->xsave2 = check(fd, KVM_CAP_XSAVE2) > 0;
    c->ioeventfd = check(fd, KVM_CAP_IOEVENTFD) && check(fd, KVM_CAP_IOEVENTFD_NO_LENGTH);
    c->irqfd = check(fd, KVM_CAP_IRQFD) && check(fd, KVM_CAP_IRQ_ROUTING);
    c->user_space_msr = check(fd, KVM_CAP_X86_USER_SPACE_MSR);
    c->msr_filter = check(fd, KVM_CAP_X86_MSR_FILTER);
    c->triple_fault_event = check(fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT);
    c->exception_payload = check(fd, KVM_CAP_EXCEPTION_PAYLOAD);
    c->exit_on_emulation_failure = check(fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE);
    c->tsc_control = check(fd, KVM_CAP_TSC_CONTROL);
    c->hyperv = check(fd, KVM_CAP_HYPERV) && check(fd, KVM_CAP_HYPERV_VP_INDEX);
    c->enforce_pv = check(fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID);
    c->enforce_hyperv = check(fd, KVM_CAP_HYPERV_ENFORCE_CPUID);
    c->synic2 = check(fd, KVM_CAP_HYPERV_SYNIC2);
    c->guest_debug = (uint32_t)check(fd, KVM_CAP_SET_GUEST_DEBUG2);
}

/* Some fifty questions, which one start of a machine would ask five times. Answers that a test has made
 * are asked for anew. */
static bool ask(int fd, KvmCaps *caps, GError **error)
{
    static GMutex lock;
    static KvmCaps answers; /* LOCKED(lock) */
    static bool known;      /* LOCKED(lock): the host gave them */
    g_mutex_lock(&lock);
    bool hosts = kvm_ioctl_is_hosts();
    bool ok = (known && hosts) || check_required(fd, error);
    if (ok && !(known && hosts)) {
        answers = (KvmCaps){ 0 };
        look(fd, &answers);
        known = hosts;
    }
    *caps = answers;
    g_mutex_unlock(&lock);
    return ok;
}

int kvm_open(KvmCaps *caps, GError **error)
{
    pta_autofd int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        cannot_open(errno, error);
        return -1;
    }
    return ask(fd, caps, error) ? g_steal_fd(&fd) : -1;
}
