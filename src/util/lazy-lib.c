#include "config.h"

#include "src/util/lazy-lib.h"

#include <dlfcn.h>
#include <string.h>

static bool set_symbols(const PtaLazyLib *lib, void *handle, GError **error)
{
    for (const PtaLazySymbol *s = lib->symbols; s->name; s++) {
        void *address = dlsym(handle, s->name);
        if (!address) {
            return pta_throw(error, PTA_ERROR_HOST, "%s has no %s", lib->soname, s->name);
        }
        memcpy(s->to, &address, sizeof(address)); /* POSIX: the same representation */
    }
    return true;
}

bool pta_lazy_lib_load(PtaLazyLib *lib, GError **error)
{
    static GMutex lock;
    if (__atomic_load_n(&lib->loaded, __ATOMIC_ACQUIRE)) {
        return true;
    }
    g_mutex_lock(&lock);
    bool ok = lib->loaded;
    if (!ok) {
        void *handle = dlopen(lib->soname, RTLD_NOW | RTLD_LOCAL);
        ok = handle ? set_symbols(lib, handle, error)
                    : pta_throw(error, PTA_ERROR_HOST, "%s", dlerror());
        __atomic_store_n(&lib->loaded, ok, __ATOMIC_RELEASE);
        if (!ok && handle) {
            dlclose(handle);
        }
    }
    g_mutex_unlock(&lock);
    return ok;
}
