/*
 * A network back end: something that Ethernet frames go to and come from. One front end, a NIC, is
 * attached to it. Frames have no checksum of their own (FCS).
 *
 * A back end may have a virtio-net header of 12 bytes before each frame (tap), and then leaves
 * checksums and segmentation to whoever is at the other end; for one that has none the NIC does this
 * work itself (offload.h).
 *
 * Threads: send, commit and all calls of the front end in the context; configure and ready from any
 * thread. The front end is never called from within a call of its own, so it may hold a lock.
 */
#ifndef PTA_NET_H
#define PTA_NET_H

#include <sys/uio.h>

#include "src/util/inspect.h"
#include "src/util/util.h"

struct NetConfig; /* qmp/gen/types.h */

typedef struct PtaNet PtaNet;

#define PTA_NET_HEADER     12
#define PTA_NET_ETH_HEADER 14
/* The largest IP packet with an Ethernet header and two VLAN tags. */
#define PTA_NET_MAX_FRAME (65535 + 14 + 8)
#define PTA_NET_MAX_PAIRS 8

/* What the front end can take as it comes: bits for configure(). */
#define PTA_NET_CSUM 1u /* frames whose checksum is not there yet */
#define PTA_NET_TSO4 2u
#define PTA_NET_TSO6 4u
#define PTA_NET_ECN  8u
#define PTA_NET_UFO  16u

typedef struct PtaNetFrontend {
    /* A frame, after its header if the back end has them. False: there is no room; it is called
     * again with the same frame after ready(). */
    bool (*receive)(void *opaque, unsigned pair, const uint8_t *data, size_t len);
    /* Frames were refused, and now there is room. */
    void (*writable)(void *opaque);
    /* pta_net_link_up() has changed. */
    void (*link)(void *opaque);
} PtaNetFrontend;

typedef enum PtaNetSent {
    PTA_NET_SENT,
    PTA_NET_DROPPED, /* nobody is there, or it cannot be sent */
    PTA_NET_FULL,    /* not now: writable() will be called */
} PtaNetSent;

typedef struct PtaNetClass {
    size_t instance_size;
    const char *type; /* of NetConfig's branches */
    PtaNetSent (*send)(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n, size_t len);
    void (*commit)(PtaNet *net); /* may be NULL: send does it all */
    /* The driver is ready. May be NULL. */
    void (*configure)(PtaNet *net, unsigned offloads, unsigned pairs);
    /* MAIN, once: the front end is there. */
    void (*start)(PtaNet *net);
    /* Takes up reading again. */
    void (*ready)(PtaNet *net, unsigned pair);
    void (*free)(PtaNet *net); /* context */
    void (*inspect)(PtaNet *net, PtaInspect *req);
    /* A descriptor for a back end that waits for one; taken over if it succeeds. Context. May be
     * NULL. */
    bool (*set_fd)(PtaNet *net, int fd, GError **error);
} PtaNetClass;

/* What the machine is told of; in the context. */
typedef enum PtaNetEvent {
    PTA_NET_EVENT_CONNECTED,    /* text: the address, "unix:PATH" or "HOST:PORT" */
    PTA_NET_EVENT_DISCONNECTED, /* text: why */
    PTA_NET_EVENT_FAILED,       /* the back end is dead; text: why */
} PtaNetEvent;

typedef struct PtaNetParams {
    const char *id;        /* copied: of the device */
    GMainContext *context; /* referenced */
    const char *base_dir;  /* lent for the call */
    void (*event)(void *opaque, PtaNetEvent event, const char *text);
    void *opaque;
} PtaNetParams;

struct PtaNet {
    const PtaNetClass *klass;                                         /* CONST */
    char *id;                                                         /* CONST */
    GMainContext *context;                                            /* CONST */
    void (*event)(void *opaque, PtaNetEvent event, const char *text); /* CONST */
    void *event_opaque;                                               /* CONST */
    bool vnet_header;                                                 /* CONST */
    unsigned offloads;              /* CONST: what it can do with frames for the front end */
    unsigned max_pairs;             /* CONST: queue pairs */
    int link_up;                    /* ATOMIC */
    const PtaNetFrontend *frontend; /* CONST after attach */
    void *frontend_opaque;          /* CONST after attach */
    uint64_t n_dropped; /* ATOMIC, written in the context: what the guest sent to nobody */
};

/* MAIN. Errors: HOST, BAD_DESCRIPTION. Nothing is received before attach. */
PtaNet *pta_net_new(const struct NetConfig *config, const PtaNetParams *params, GError **error);
void pta_net_attach(PtaNet *net, const PtaNetFrontend *frontend, void *opaque);
/* MAIN. On return the front end is not called any more. */
void pta_net_free(PtaNet *net);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaNet, pta_net_free)

static inline bool pta_net_link_up(const PtaNet *net)
{
    return __atomic_load_n(&net->link_up, __ATOMIC_ACQUIRE) != 0;
}

PtaNetSent pta_net_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                        size_t len);
void pta_net_commit(PtaNet *net);
void pta_net_configure(PtaNet *net, unsigned offloads, unsigned pairs);
void pta_net_ready(PtaNet *net, unsigned pair);

/* MAIN. Takes fd over if it succeeds. UNSUPPORTED, BAD_STATE, HOST. */
bool pta_net_set_fd(PtaNet *net, int fd, GError **error);

/* PtaInspectFn. */
void pta_net_inspect(void *net, PtaInspect *req);

/* ---- for back ends ---- */

bool pta_net_user_init(PtaNet *net, const void *config, const char *base_dir, GError **error);
bool pta_net_tap_init(PtaNet *net, const void *config, const char *base_dir, GError **error);
bool pta_net_stream_init(PtaNet *net, const void *config, const char *base_dir, GError **error);
bool pta_net_dgram_init(PtaNet *net, const void *config, const char *base_dir, GError **error);
extern const PtaNetClass pta_net_user_class;
extern const PtaNetClass pta_net_tap_class;
extern const PtaNetClass pta_net_stream_class;
extern const PtaNetClass pta_net_dgram_class;

/* One of that class, before its init; tests have classes of their own. */
PtaNet *pta_net_alloc(const PtaNetClass *klass, const PtaNetParams *params);

/* Context, or init. Tells the front end, if it changes. */
void pta_net_set_link(PtaNet *net, bool up);
void pta_net_tell(PtaNet *net, PtaNetEvent event, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
