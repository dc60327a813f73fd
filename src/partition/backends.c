/* The back ends of this build, in the order in which `auto` tries them, and the choice. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/backend.h"

const PtaBackendOps *const pta_backends[] = {
#ifdef PTA_HAVE_KVM
    &pta_kvm_backend,
#endif
    &pta_soft_backend,
    NULL,
};

static const PtaBackendOps *find_backend(const char *name)
{
    for (size_t i = 0; pta_backends[i]; i++) {
        if (g_str_equal(pta_backends[i]->name, name)) {
            return pta_backends[i];
        }
    }
    return NULL;
}

static bool would_take(const PtaBackendOps *ops, GError **error)
{
    return ops->probe_auto ? ops->probe_auto(error) : ops->probe(error);
}

static const PtaBackendOps *choose_by_name(const char *name, GError **error)
{
    const PtaBackendOps *ops = find_backend(name);
    if (!ops) {
        g_autoptr(GString) known = g_string_new(NULL);
        for (size_t i = 0; pta_backends[i]; i++) {
            g_string_append_printf(known, "%s, ", pta_backends[i]->name);
        }
        pta_throw(error, PTA_ERROR_UNSUPPORTED,
                  "$.partition.backend: this build has no back end \"%s\"; expected one of: %sauto",
                  name, known->str);
        return NULL;
    }
    if (!ops->probe(error)) {
        g_prefix_error(error, "$.partition.backend: %s: ", name);
        return NULL;
    }
    return ops;
}

const PtaBackendOps *pta_backend_choose(const char *name, GError **error)
{
    if (!g_str_equal(name, "auto")) {
        return choose_by_name(name, error);
    }
    g_autoptr(GString) why = g_string_new(NULL);
    for (size_t i = 0; pta_backends[i]; i++) {
        g_autoptr(GError) refusal = NULL;
        if (would_take(pta_backends[i], &refusal)) {
            g_message("partition: back end %s%s%s%s", pta_backends[i]->name, why->len ? " (" : "",
                      why->str, why->len ? ")" : "");
            return pta_backends[i];
        }
        g_string_append_printf(why, "%snot %s: %s", why->len ? "; " : "", pta_backends[i]->name,
                               refusal->message);
    }
    pta_throw(error, PTA_ERROR_UNSUPPORTED, "partition: no back end can run here: %s", why->str);
    return NULL;
}
