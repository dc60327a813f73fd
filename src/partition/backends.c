/* The back ends of this build, in the order in which `auto` tries them, and the choice. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/backend.h"

const PtaBackendOps *const pta_backends[] = {
    &pta_soft_backend,
    NULL,
};

static bool is_pvm_host(void)
{
    return g_file_test("/sys/module/kvm_pvm", G_FILE_TEST_IS_DIR);
}

static const PtaBackendOps *find_backend(const char *name)
{
    for (size_t i = 0; pta_backends[i]; i++) {
        if (g_str_equal(pta_backends[i]->name, name)) {
            return pta_backends[i];
        }
    }
    return NULL;
}

const PtaBackendOps *pta_backend_choose(const char *name, GError **error)
{
    if (!g_str_equal(name, "auto")) {
        const PtaBackendOps *ops = find_backend(name);
        if (!ops) {
            pta_throw(
                error, PTA_ERROR_UNSUPPORTED,
                "$.partition.backend: this build has no back end \"%s\"; expected soft or auto",
                name);
            return NULL;
        }
        return ops->probe(error) ? ops : NULL;
    }
    g_autoptr(GString) why = g_string_new(NULL);
    for (size_t i = 0; pta_backends[i]; i++) {
        g_autoptr(GError) refusal = NULL;
        if (pta_backends[i]->probe(&refusal)) {
            if (why->len == 0 && !find_backend("kvm")) {
                g_string_append(why, is_pvm_host()
                                         ? "the host's KVM does not virtualise in hardware"
                                         : "this build has no KVM back end");
            }
            g_message("partition: back end %s%s%s%s", pta_backends[i]->name, why->len ? " (" : "",
                      why->str, why->len ? ")" : "");
            return pta_backends[i];
        }
        g_string_append_printf(why, "%s%s: %s", why->len ? "; " : "", pta_backends[i]->name,
                               refusal->message);
    }
    pta_throw(error, PTA_ERROR_UNSUPPORTED, "partition: no back end can run here: %s", why->str);
    return NULL;
}
