/* What inspect sees of a virtual processor: for machine-inspect.c. MAIN. */
#ifndef PTA_INSPECT_VP_H
#define PTA_INSPECT_VP_H

#include "src/machine/machine-private.h"
#include "src/util/inspect.h"

typedef struct PtaVpRef {
    PtaVm *vm;
    unsigned index;
} PtaVpRef;

/* PtaInspectFn of a PtaVpRef. Registers are read when they are asked for. */
void pta_vp_inspect(void *ref, PtaInspect *req);

#endif
