/* Commands for tests of the monitor, and a machine that is none. */
#ifndef PTA_TEST_MONITOR_FAKE_H
#define PTA_TEST_MONITOR_FAKE_H

#include "qmp/session.h"

/* Commands: echo (returns its arguments), nothing, text, fast (the one with oob), fail {code},
 * fail-bytes, fail-foreign, stop-it (emits STOP), emit {count} (TICKs), large {size} (a string),
 * qmp_capabilities, events-replay. */
const PtaQmpCommand *fake_find(const char *name);

/* vm is the sink, for the commands that emit. */
PtaSessionEnv fake_env(PtaEventSink *sink);

#endif
