/* Commands for tests of the monitor, and a machine that is none. */
#ifndef PTA_TEST_MONITOR_FAKE_H
#define PTA_TEST_MONITOR_FAKE_H

#include "qmp/session.h"

/*
 * Commands: echo (returns its arguments), nothing, text, fast (the one with oob), fail {code},
 * fail-bytes, fail-foreign, stop-it (emits STOP), emit {count} (TICKs), large {size} (a string),
 * qmp_capabilities, events-replay; and later {fail, now}, which answers with its arguments, or fails,
 * when fake_end() says so or at once.
 */
typedef struct Fake {
    PtaEventSink *sink;
    PtaSessionEnv env;
    GQueue later;     /* commands under way */
    unsigned started; /* how many `later` there were */
} Fake;

/* capacity: of the ring of events. */
Fake *fake_new(unsigned capacity);
/* Ends what is under way. */
void fake_free(Fake *fake);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fake, fake_free)

/* Ends the command that has been under way for longest; false if there is none. */
bool fake_end(Fake *fake);

#endif
