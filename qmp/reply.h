/*
 * The answer to a command whose handler need not give it at once: `"async": true` in the schema. The
 * handler owns the reply and ends it exactly once, in its call or any time later, with the generated
 * qmp_…_return() or with pta_qmp_reply_fail(). Whoever waits may be gone by then; the handler need
 * not know.
 *
 * Threads: MAIN. A thread that has the answer posts it (pta_main_call).
 */
#ifndef PTA_QMP_REPLY_H
#define PTA_QMP_REPLY_H

#include <jansson.h>

#include "src/util/util.h"

typedef struct PtaQmpReply PtaQmpReply;

/* End the reply, which is gone afterwards. error: lent. ret: a reference that is taken; NULL stands
 * for an empty object. Handlers use the generated, typed qmp_…_return() instead of the first. */
void pta_qmp_reply_return(PtaQmpReply *reply, json_t *ret);
void pta_qmp_reply_fail(PtaQmpReply *reply, const GError *error);

/* Whether anybody still waits. If not, perhaps because the monitor is gone, and with it soon the
 * machine, a handler that only reads may as well stop: it ends the reply all the same. */
bool pta_qmp_reply_wanted(const PtaQmpReply *reply);

/* ---- for those who run commands ---- */

/* How a command ended: error, or ret; both lent. */
typedef void PtaQmpReplyFn(void *data, json_t *ret, const GError *error);

PtaQmpReply *pta_qmp_reply_new(PtaQmpReplyFn *done, void *data);

/* done is not called any more; the reply is still the handler's to end. */
void pta_qmp_reply_forget(PtaQmpReply *reply);

#endif
