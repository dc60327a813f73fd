#include "config.h"

#include "tests/kvm/kvm-host.h"

#include "src/kvm/kvm.h"

#include <cpuid.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool kvm_host_usable(void)
{
    g_autoptr(GError) error = NULL;
    if (g_access("/dev/kvm", F_OK) != 0) {
        printf("1..0 # SKIP no /dev/kvm\n");
        return false;
    }
    if (!pta_kvm_backend.probe(&error)) {
        printf("1..0 # SKIP %s\n", error->message);
        return false;
    }
    return true;
}

bool kvm_host_interprets(void)
{
    return !pta_kvm_backend.probe_auto(NULL);
}

bool kvm_host_is_emulated(void)
{
    unsigned leaf, name[3];
    __cpuid(0x40000000, leaf, name[0], name[1], name[2]);
    return memcmp(name, "TCGTCGTCGTCG", sizeof(name)) == 0;
}
