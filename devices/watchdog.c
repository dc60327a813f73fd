/*
 * The watchdog: see watchdog.h. Registers come from VP threads, the countdown ends on the device's
 * I/O thread; LOCKED by the device's lock.
 *
 * It counts in the partition's clock, and a timer of the host only says when to look at that. Where
 * VPs were stopped in between (a halt, a debugger) the timer comes too early and is set again.
 */
#include "config.h"

#define G_LOG_DOMAIN "watchdog"

#include "devices/watchdog.h"

#include "devices/devices.h"
#include "devices/io.h"
#include "devices/mmio-manager.h"

#include <inttypes.h>

#define NS_PER_MS     UINT64_C(1000000)
#define NS_PER_PERIOD (PTA_WATCHDOG_PERIOD_MS * NS_PER_MS)

/* While the clock stands still and nobody says when it goes on, it is looked at this often. */
#define RETRY_NS (50 * NS_PER_MS)

typedef struct WatchdogState {
    uint64_t left_ns; /* as of Watchdog.as_of_ns */
    uint32_t count;   /* what LEFT is reloaded with */
    uint8_t running;
    uint8_t expiry; /* PTA_WATCHDOG_REBOOT, _SHUTDOWN */
    uint8_t status;
    uint8_t reserved;
} WatchdogState;

static const PtaStateField watchdog_fields[] = {
    PTA_STATE_U64(WatchdogState, left_ns),
    PTA_STATE_U32(WatchdogState, count),
    PTA_STATE_U8(WatchdogState, running),
    PTA_STATE_U8(WatchdogState, expiry),
    PTA_STATE_U8(WatchdogState, status),
    PTA_STATE_U8(WatchdogState, reserved),
    {},
};

typedef struct Watchdog {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
    GSource *timer;         /* CONST; its time is LOCKED(lock) */
    GMutex lock;
    WatchdogState state; /* LOCKED(lock) */
    uint64_t as_of_ns;   /* LOCKED(lock): the partition's clock at the last look */
    bool counting;       /* LOCKED(lock): between start() and quiesce() */
} Watchdog;

static Watchdog *watchdog_of(PtaDevice *dev)
{
    g_assert(dev->klass == &pta_watchdog_class);
    return (Watchdog *)dev;
}

/* ---- the countdown ---- */

/* Takes off what has passed since the last look. A clock that was set back has passed nothing. */
static void settle_locked(Watchdog *w)
{
    PtaDeviceHost *host = w->parent.host;
    uint64_t now = host->clock_ns(host);
    if (w->counting && w->state.running && now > w->as_of_ns) {
        w->state.left_ns -= MIN(w->state.left_ns, now - w->as_of_ns);
    }
    w->as_of_ns = now;
}

static void reload_locked(Watchdog *w)
{
    w->state.left_ns = w->state.count * NS_PER_PERIOD;
}

/* Sets the timer to when the countdown can have ended at the earliest. */
static void arm_locked(Watchdog *w, uint64_t at_least_ns)
{
    int64_t when_us = -1;
    if (w->counting && w->state.running) {
        uint64_t wait_ns = MAX(w->state.left_ns, at_least_ns);
        when_us = g_get_monotonic_time() + (int64_t)(wait_ns / 1000) + 1;
    }
    g_source_set_ready_time(w->timer, when_us);
}

/*
 * Whoever comes first after the end, the timer or an access of the guest that was too late, asks for
 * the halt. It is asked for under the lock, so that none comes after quiesce(); that takes no lock
 * but the halt's own, and waits for nobody. The countdown goes on from its full length: where the
 * machine is made to run on and the guest still hangs, it is told again.
 */
static void catch_up_locked(Watchdog *w)
{
    settle_locked(w);
    if (!w->counting || !w->state.running || w->state.left_ns > 0) {
        return;
    }
    g_info("%s: it has expired", w->parent.id);
    w->state.status = 1;
    reload_locked(w);
    w->parent.host->power(w->parent.host, PTA_POWER_WATCHDOG,
                          w->state.expiry == PTA_WATCHDOG_SHUTDOWN);
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)source, (void)callback;
    PTA_TSAN_ACQUIRE(data); /* handed over by the context's own lock */
    Watchdog *w = data;
    g_mutex_lock(&w->lock);
    catch_up_locked(w);
    arm_locked(w, RETRY_NS);
    g_mutex_unlock(&w->lock);
    return G_SOURCE_CONTINUE;
}

static gboolean timer_callback(gpointer data)
{
    (void)data;
    return G_SOURCE_CONTINUE;
}

/* ---- registers ---- */

static bool is_register(const Watchdog *w, const char *what, uint64_t offset, unsigned size)
{
    bool ok = size == 4 && offset % 4 == 0;
    if (!ok) {
        PTA_GUEST_ERROR("%s: %s of %u bytes at 0x%" PRIx64, w->parent.id, what, size, offset);
    }
    return ok;
}

static uint64_t watchdog_read(void *opaque, uint64_t offset, unsigned size)
{
    Watchdog *w = watchdog_of(opaque);
    uint64_t value = 0;
    if (!is_register(w, "read", offset, size)) {
        return 0;
    }
    g_mutex_lock(&w->lock);
    catch_up_locked(w);
    switch (offset) {
    case PTA_WATCHDOG_COUNT:
        value = w->state.count;
        break;
    case PTA_WATCHDOG_LEFT:
        value = (w->state.left_ns + NS_PER_PERIOD - 1) / NS_PER_PERIOD;
        break;
    case PTA_WATCHDOG_CONTROL:
        value = w->state.running;
        break;
    case PTA_WATCHDOG_EXPIRY:
        value = w->state.expiry;
        break;
    case PTA_WATCHDOG_STATUS:
        value = w->state.status;
        break;
    default:
        break;
    }
    g_mutex_unlock(&w->lock);
    return value;
}

static void write_locked(Watchdog *w, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case PTA_WATCHDOG_RELOAD:
        if (value & 1) {
            reload_locked(w);
        }
        break;
    case PTA_WATCHDOG_COUNT: /* from the next reload on */
        w->state.count = CLAMP(value, PTA_WATCHDOG_COUNT_MIN, PTA_WATCHDOG_COUNT_MAX);
        break;
    case PTA_WATCHDOG_CONTROL:
        if (value & 1 && !w->state.running) {
            reload_locked(w);
        }
        w->state.running = value & 1;
        break;
    case PTA_WATCHDOG_EXPIRY:
        w->state.expiry = value & PTA_WATCHDOG_SHUTDOWN;
        break;
    case PTA_WATCHDOG_STATUS:
        w->state.status &= (uint8_t)~value;
        break;
    default: /* LEFT is read-only */
        break;
    }
}

static void watchdog_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Watchdog *w = watchdog_of(opaque);
    if (!is_register(w, "write", offset, size)) {
        return;
    }
    g_mutex_lock(&w->lock);
    catch_up_locked(w);
    write_locked(w, offset, (uint32_t)value);
    arm_locked(w, 0);
    g_mutex_unlock(&w->lock);
}

static const PtaBusOps watchdog_ops = { .read = watchdog_read, .write = watchdog_write };

/* ---- life ---- */

static GSource *timer_new(Watchdog *w)
{
    static GSourceFuncs funcs = { .dispatch = timer_dispatch };
    GSource *timer = g_source_new(&funcs, sizeof(GSource));
    g_source_set_callback(timer, timer_callback, w, NULL);
    g_source_set_ready_time(timer, -1);
    PTA_TSAN_RELEASE(w);
    g_source_attach(timer, w->parent.host->io_context);
    return timer;
}

static bool watchdog_realize(PtaDevice *dev, const void *config, GError **error)
{
    (void)config;
    Watchdog *w = watchdog_of(dev);
    PtaDeviceHost *host = dev->host;
    const PtaPlacedDevice *other = pta_mmio_manager_find(host->manager, PTA_PLACED_WATCHDOG, NULL);
    if (other) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "a machine has at most one watchdog, and %s is it", other->id);
    }
    PtaIrqLine none;
    if (!host->place(host, dev, PTA_PLACED_WATCHDOG, false, 0, PTA_WATCHDOG_SIZE, &watchdog_ops,
                     false, -1, &w->placed, &none, error)) {
        return false;
    }
    g_mutex_init(&w->lock);
    w->timer = timer_new(w);
    return true;
}

static void timer_destroy(void *timer)
{
    g_source_destroy(timer);
}

static void watchdog_unrealize(PtaDevice *dev)
{
    Watchdog *w = watchdog_of(dev);
    pta_io_call(dev->host->io_context, timer_destroy, w->timer); /* it is not at work after that */
    g_source_unref(w->timer);
    g_mutex_clear(&w->lock);
}

static void watchdog_reset(PtaDevice *dev)
{
    Watchdog *w = watchdog_of(dev);
    g_mutex_lock(&w->lock);
    w->state = (WatchdogState){ .count = PTA_WATCHDOG_COUNT_DEFAULT, .status = w->state.status };
    reload_locked(w);
    g_mutex_unlock(&w->lock);
}

static void watchdog_start(PtaDevice *dev)
{
    Watchdog *w = watchdog_of(dev);
    g_mutex_lock(&w->lock);
    settle_locked(w); /* nothing passes: it does not count yet */
    w->counting = true;
    arm_locked(w, 0);
    g_mutex_unlock(&w->lock);
}

static void watchdog_quiesce(PtaDevice *dev)
{
    Watchdog *w = watchdog_of(dev);
    g_mutex_lock(&w->lock);
    settle_locked(w); /* what has ended by now is said after the next start */
    w->counting = false;
    arm_locked(w, 0);
    g_mutex_unlock(&w->lock);
}

static bool watchdog_validate(const void *state, GError **error)
{
    const WatchdogState *s = state;
    bool ok = s->count >= PTA_WATCHDOG_COUNT_MIN && s->count <= PTA_WATCHDOG_COUNT_MAX &&
              s->left_ns <= PTA_WATCHDOG_COUNT_MAX * NS_PER_PERIOD && s->running <= 1 &&
              s->expiry <= PTA_WATCHDOG_SHUTDOWN && s->status <= 1 && s->reserved == 0;
    return ok || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a register has a value that cannot be");
}

static const PtaStateDesc watchdog_state = {
    .name = "watchdog",
    .version = 1,
    .size = sizeof(WatchdogState),
    .fields = watchdog_fields,
    .validate = watchdog_validate,
};

static void watchdog_inspect(PtaDevice *dev, PtaInspect *req)
{
    Watchdog *w = watchdog_of(dev);
    g_mutex_lock(&w->lock);
    settle_locked(w);
    WatchdogState s = w->state;
    g_mutex_unlock(&w->lock);
    pta_inspect_bool(req, "running", PTA_INSPECT_PLAIN, s.running);
    pta_inspect_u64(req, "count-ms", PTA_INSPECT_PLAIN, (uint64_t)s.count * PTA_WATCHDOG_PERIOD_MS);
    pta_inspect_u64(req, "left-ms", PTA_INSPECT_PLAIN, s.left_ns / NS_PER_MS);
    pta_inspect_str(req, "on-expiry", PTA_INSPECT_PLAIN,
                    s.expiry == PTA_WATCHDOG_SHUTDOWN ? "shutdown" : "reboot");
    pta_inspect_bool(req, "has-expired", PTA_INSPECT_PLAIN, s.status);
}

const PtaDeviceClass pta_watchdog_class = {
    .type = "watchdog",
    .instance_size = sizeof(Watchdog),
    .state = &watchdog_state,
    .state_offset = offsetof(Watchdog, state),
    .realize = watchdog_realize,
    .reset = watchdog_reset,
    .start = watchdog_start,
    .quiesce = watchdog_quiesce,
    .unrealize = watchdog_unrealize,
    .inspect = watchdog_inspect,
};
