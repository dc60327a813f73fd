/* What the files of commands share with the rest of qmp/. */
#ifndef PTA_QMP_CMD_H
#define PTA_QMP_CMD_H

#include "qmp/gen/types.h"
#include "src/partition/halt.h"

/* The schema's name for a reason that is reported. */
HaltReason pta_qmp_halt_reason(PtaHaltKind kind);

#endif
