/* Every ioctl of this back end, in one place. Any thread. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>

static int host_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

PtaKvmIoctlFn *pta_kvm_ioctl_hook = host_ioctl;

bool kvm_ioctl_is_hosts(void)
{
    return pta_kvm_ioctl_hook == host_ioctl;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    return pta_kvm_ioctl_hook(fd, request, arg);
}

bool kvm_try_named(int fd, unsigned long request, void *arg, const char *name, GError **error)
{
    int r;
    do {
        r = kvm_ioctl(fd, request, arg);
    } while (r < 0 && errno == EINTR);
    return r >= 0 || pta_throw_errno(error, errno, "%s", name);
}
