/*
 * A shared library that most runs do not want: opened by the first call that does, since each library
 * that the loader has to find, map and relocate costs every start of a machine some 50 µs. The types are
 * those of the library's header, which the build needs; the library itself is named by its soname.
 */
#ifndef PTA_LAZY_LIB_H
#define PTA_LAZY_LIB_H

#include "src/util/util.h"

typedef struct PtaLazySymbol {
    const char *name; /* NULL: the end */
    void *to;         /* a pointer to a function, to be set */
} PtaLazySymbol;

typedef struct PtaLazyLib {
    const char *soname;
    const PtaLazySymbol *symbols;
    bool loaded; /* ATOMIC */
} PtaLazyLib;

/* static PTA_LAZY_FUNCTION(inflate); and { PTA_LAZY_SYMBOL(inflate) } declare and name dl_inflate. */
#define PTA_LAZY_FUNCTION(function) __typeof__(function) *dl_##function
#define PTA_LAZY_SYMBOL(function)   #function, &dl_##function

/* Sets all symbols, once; they stay. PTA_ERROR_HOST: it is not installed, or lacks one. Any thread. */
bool pta_lazy_lib_load(PtaLazyLib *lib, GError **error);

#endif
