/*
 * A VP's state from a damaged or malicious snapshot: a reset state with some of its bytes replaced. It is
 * refused with an error, or the software CPU takes it, gives it back, and takes and gives back just that.
 *
 * Input: records of offset (2 bytes, little-endian), length (1 byte) and that many bytes.
 */
#include "config.h"

#include "src/partition/backend.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLOCK_NS UINT64_C(0x123456789ab)

static struct {
    PtaCpuidTable cpuid;
    PtaPlatform platform;
    PtaBackend *be;
    PtaBackendVp *vp;
} m;

static void set_up(void)
{
    const PtaBackendOps *ops = &pta_soft_backend;
    PtaCpuidParams p = {
        .n_vps = 1,
        .tsc_hz = 1000000000,
        .apic_hz = 1000000000,
        .supported = ops->cpu_features(),
    };
    PtaBackendParams params = { .n_vps = 1, .cpuid = &m.cpuid, .platform = &m.platform };
    bool ok = pta_cpuid_build(&m.cpuid, &p, NULL);
    g_assert(ok);
    m.be = ops->create(&params, NULL);
    m.vp = ops->vp_create(m.be, 0, NULL);
    ops->clock_set(m.be, CLOCK_NS);
}

static void patch(PtaX86State *s, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t offset = (data[0] | (size_t)data[1] << 8) % sizeof(*s);
        size_t len = MIN((size_t)data[2], MIN(size - 3, sizeof(*s) - offset));
        memcpy((uint8_t *)s + offset, data + 3, len);
        data += 3 + len;
        size -= 3 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const PtaBackendOps *ops = &pta_soft_backend;
    g_autoptr(GError) error = NULL;
    static PtaX86State in, first, second;
    if (!m.be) {
        set_up();
    }
    pta_x86_state_reset(&in, 0, 1);
    patch(&in, data, size);
    if (!ops->vp_set_state(m.vp, &in, &error)) {
        g_assert(error && error->message[0]);
        return 0;
    }
    ops->vp_get_state(m.vp, &first);
    if (!ops->vp_set_state(m.vp, &first, &error)) {
        g_error("its own state is refused: %s", error->message);
    }
    ops->vp_get_state(m.vp, &second);
    g_assert(memcmp(&first, &second, sizeof(first)) == 0);
    return 0;
}
