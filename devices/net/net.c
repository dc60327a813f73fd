/* What all network back ends share: making one from its description, link, events. */
#include "config.h"

#include "devices/net/net.h"

#include "devices/io.h"
#include "qmp/gen/types.h"

typedef struct Kind {
    const PtaNetClass *klass;
    bool (*init)(PtaNet *net, const void *config, const char *base_dir, GError **error);
} Kind;

static const Kind kinds[] = {
    [NET_CONFIG_TYPE_USER] = { &pta_net_user_class, pta_net_user_init },
    [NET_CONFIG_TYPE_TAP] = { &pta_net_tap_class, pta_net_tap_init },
    [NET_CONFIG_TYPE_STREAM] = { &pta_net_stream_class, pta_net_stream_init },
    [NET_CONFIG_TYPE_DGRAM] = { &pta_net_dgram_class, pta_net_dgram_init },
};

static void net_destroy(PtaNet *net)
{
    g_main_context_unref(net->context);
    g_free(net->id);
    g_free(net);
}

PtaNet *pta_net_alloc(const PtaNetClass *klass, const PtaNetParams *params)
{
    PtaNet *net = g_malloc0(klass->instance_size);
    net->klass = klass;
    net->id = g_strdup(params->id);
    net->context = g_main_context_ref(params->context);
    net->event = params->event;
    net->event_opaque = params->opaque;
    net->max_pairs = 1;
    return net;
}

PtaNet *pta_net_new(const NetConfig *config, const PtaNetParams *params, GError **error)
{
    g_assert((size_t)config->type < G_N_ELEMENTS(kinds));
    const Kind *kind = &kinds[config->type];
    PtaNet *net = pta_net_alloc(kind->klass, params);
    /* The branches of the union are pointers, all at one place. */
    if (!kind->init(net, config->user, params->base_dir, error)) {
        net_destroy(net);
        return NULL;
    }
    return net;
}

void pta_net_attach(PtaNet *net, const PtaNetFrontend *frontend, void *opaque)
{
    g_assert(!net->frontend);
    net->frontend_opaque = opaque;
    __atomic_store_n(&net->frontend, frontend, __ATOMIC_RELEASE);
    net->klass->start(net);
}

static void net_free(void *data)
{
    PtaNet *net = data;
    net->klass->free(net);
}

void pta_net_free(PtaNet *net)
{
    if (net) {
        pta_io_call(net->context, net_free, net);
        net_destroy(net);
    }
}

PtaNetSent pta_net_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n, size_t len)
{
    PtaNetSent sent = net->klass->send(net, pair, iov, n, len);
    if (sent == PTA_NET_DROPPED) {
        __atomic_store_n(&net->n_dropped, net->n_dropped + 1, __ATOMIC_RELAXED);
    }
    return sent;
}

void pta_net_commit(PtaNet *net)
{
    if (net->klass->commit) {
        net->klass->commit(net);
    }
}

void pta_net_configure(PtaNet *net, unsigned offloads, unsigned pairs)
{
    if (net->klass->configure) {
        net->klass->configure(net, offloads, pairs);
    }
}

void pta_net_ready(PtaNet *net, unsigned pair)
{
    net->klass->ready(net, pair);
}

typedef struct SetFd {
    PtaNet *net;
    int fd;
    bool ok;
    GError **error;
} SetFd;

static void set_fd(void *data)
{
    SetFd *call = data;
    call->ok = call->net->klass->set_fd(call->net, call->fd, call->error);
}

bool pta_net_set_fd(PtaNet *net, int fd, GError **error)
{
    if (!net->klass->set_fd) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "%s: a back end of type %s takes no descriptor", net->id,
                         net->klass->type);
    }
    SetFd call = { .net = net, .fd = fd, .error = error };
    pta_io_call(net->context, set_fd, &call);
    return call.ok;
}

void pta_net_set_link(PtaNet *net, bool up)
{
    if (pta_net_link_up(net) == up) {
        return;
    }
    __atomic_store_n(&net->link_up, up, __ATOMIC_RELEASE);
    if (net->frontend) {
        net->frontend->link(net->frontend_opaque);
    }
}

void pta_net_tell(PtaNet *net, PtaNetEvent event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    if (event == PTA_NET_EVENT_CONNECTED) {
        g_info("%s: connected with %s", net->id, text);
    } else {
        g_message("%s: %s", net->id, text);
    }
    if (net->event) {
        net->event(net->event_opaque, event, text);
    }
}

void pta_net_inspect(void *obj, PtaInspect *req)
{
    PtaNet *net = obj;
    pta_inspect_str(req, "type", PTA_INSPECT_PLAIN, net->klass->type);
    pta_inspect_bool(req, "link", PTA_INSPECT_PLAIN, pta_net_link_up(net));
    pta_inspect_bool(req, "vnet-header", PTA_INSPECT_PLAIN, net->vnet_header);
    pta_inspect_u64(req, "dropped", PTA_INSPECT_COUNTER,
                    __atomic_load_n(&net->n_dropped, __ATOMIC_RELAXED));
    if (net->klass->inspect) {
        net->klass->inspect(net, req);
    }
}
