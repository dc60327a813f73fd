/* The back ends of this build, in the order in which `auto` tries them. */
#include "config.h"

#include "src/partition/backend.h"

const PtaBackendOps *const pta_backends[] = {
    &pta_soft_backend,
    NULL,
};
