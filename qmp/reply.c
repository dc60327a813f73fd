/* An answer that comes later: whom to call, if still anybody. MAIN. */
#include "config.h"

#include "qmp/reply.h"

struct PtaQmpReply {
    PtaQmpReplyFn *done; /* NULL: nobody waits */
    void *data;
};

PtaQmpReply *pta_qmp_reply_new(PtaQmpReplyFn *done, void *data)
{
    PtaQmpReply *reply = g_new0(PtaQmpReply, 1);
    reply->done = done;
    reply->data = data;
    return reply;
}

void pta_qmp_reply_forget(PtaQmpReply *reply)
{
    reply->done = NULL;
}

bool pta_qmp_reply_wanted(const PtaQmpReply *reply)
{
    return reply->done != NULL;
}

static void end(PtaQmpReply *reply, json_t *ret, const GError *error)
{
    pta_assert_main();
    if (reply->done) {
        reply->done(reply->data, ret, error);
    }
    g_free(reply);
}

void pta_qmp_reply_return(PtaQmpReply *reply, json_t *ret)
{
    json_t *value = ret ? ret : json_object();
    end(reply, value, NULL);
    json_decref(value);
}

void pta_qmp_reply_fail(PtaQmpReply *reply, const GError *error)
{
    g_assert(error != NULL);
    end(reply, NULL, error);
}
