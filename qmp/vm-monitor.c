/* What a machine tells, as events; and where its description wants to be talked to. MAIN. */
#include "config.h"

#include "qmp/vm-monitor.h"

#include <string.h>

#include "qmp/cmd.h"
#include "qmp/gen/events.h"
#include "qmp/monitor.h"
#include "src/machine/machine-inspect.h"

struct PtaVmMonitor {
    PtaVm *vm;
    PtaEventSink *sink;
    PtaSessionEnv env;
    PtaMonitor *monitor;
    WatchdogAction watchdog_action; /* of the last event … */
    int64_t watchdog_us;            /* … and when; 0: never */
};

/* The machine names causes as QEMU does. */
static ShutdownCause cause_of(const char *name)
{
    ShutdownCause cause;
    bool known = shutdown_cause_parse(name, &cause);
    g_assert(known);
    return cause;
}

static void on_stopped(void *opaque)
{
    PtaVmMonitor *m = opaque;
    qmp_event_stop(m->sink);
}

static void on_resumed(void *opaque)
{
    PtaVmMonitor *m = opaque;
    qmp_event_resume(m->sink);
}

static void on_reset(void *opaque, bool guest, const char *reason)
{
    PtaVmMonitor *m = opaque;
    qmp_event_reset(m->sink, guest, cause_of(reason));
}

static void on_powerdown(void *opaque)
{
    PtaVmMonitor *m = opaque;
    qmp_event_powerdown(m->sink);
}

static void on_shutdown(void *opaque, bool guest, const char *reason)
{
    PtaVmMonitor *m = opaque;
    qmp_event_shutdown(m->sink, guest, cause_of(reason));
}

static void on_panicked(void *opaque, HaltAction action)
{
    static const GuestPanicAction actions[] = {
        [HALT_ACTION_HALT] = GUEST_PANIC_ACTION_PAUSE,
        [HALT_ACTION_RESET] = GUEST_PANIC_ACTION_RUN,
        [HALT_ACTION_EXIT] = GUEST_PANIC_ACTION_POWEROFF,
    };
    PtaVmMonitor *m = opaque;
    qmp_event_guest_panicked(m->sink, actions[action], NULL);
}

static void on_crash_loaded(void *opaque)
{
    PtaVmMonitor *m = opaque;
    qmp_event_guest_crashloaded(m->sink, GUEST_PANIC_ACTION_RUN, NULL);
}

/* As QEMU's: a guest may set its watchdog to expire all the time. */
static void on_watchdog(void *opaque, WatchdogAction action)
{
    PtaVmMonitor *m = opaque;
    int64_t now = g_get_monotonic_time();
    if (m->watchdog_us && action == m->watchdog_action && now - m->watchdog_us < G_USEC_PER_SEC) {
        return;
    }
    m->watchdog_us = now;
    m->watchdog_action = action;
    qmp_event_watchdog(m->sink, action);
}

/* "unix:PATH" or "HOST:PORT" */
static void tell_connected(PtaVmMonitor *m, const char *id, const char *text)
{
    InetSocketAddress inet = { 0 };
    UnixSocketAddress un = { 0 };
    SocketAddress addr = { 0 };
    const char *colon = strrchr(text, ':');
    g_autofree char *host = g_strndup(text, (gsize)(colon - text));
    if (g_str_has_prefix(text, "unix:")) {
        un.path = (char *)(uintptr_t)(text + strlen("unix:"));
        addr.type = SOCKET_ADDRESS_TYPE_UNIX;
        addr.unix_ = &un;
    } else {
        inet.host = host;
        inet.port = (char *)(uintptr_t)(colon + 1);
        addr.type = SOCKET_ADDRESS_TYPE_INET;
        addr.inet = &inet;
    }
    qmp_event_netdev_stream_connected(m->sink, id, &addr);
}

static void on_report(void *opaque, const char *id, PtaDeviceReport what, const char *text)
{
    PtaVmMonitor *m = opaque;
    g_autofree char *path = g_strdup_printf("/devices/%s", id);
    switch (what) {
    case PTA_REPORT_NET_CONNECTED:
        tell_connected(m, id, text);
        break;
    case PTA_REPORT_NET_DISCONNECTED:
        qmp_event_netdev_stream_disconnected(m->sink, id);
        break;
    case PTA_REPORT_NET_FAILED:
        qmp_event_netdev_failed(m->sink, id, text);
        break;
    case PTA_REPORT_NET_RX_FILTER:
        qmp_event_nic_rx_filter_changed(m->sink, id, path);
        break;
    }
}

static void on_halted(void *opaque, const PtaHaltReason *reason, HaltAction action)
{
    PtaVmMonitor *m = opaque;
    qmp_event_halt(m->sink, pta_qmp_halt_reason(reason->kind), action, reason->has_vp, reason->vp,
                   *reason->text ? reason->text : NULL);
}

static const PtaVmObserver observer = {
    .stopped = on_stopped,
    .resumed = on_resumed,
    .reset = on_reset,
    .powerdown = on_powerdown,
    .shutdown = on_shutdown,
    .panicked = on_panicked,
    .crash_loaded = on_crash_loaded,
    .watchdog = on_watchdog,
    .report = on_report,
    .halted = on_halted,
};

static bool listen_all(PtaVmMonitor *m, const char *base_dir, GError **error)
{
    const MachineConfig *config = pta_vm_config(m->vm);
    for (size_t i = 0; i < config->n_monitor; i++) {
        g_autofree char *path = pta_resolve_path(base_dir, config->monitor[i]->unix_->path);
        if (!pta_monitor_listen(m->monitor, path, error)) {
            g_prefix_error(error, "$.monitor[%zu].path: ", i);
            return false;
        }
    }
    return true;
}

static void inspect(void *obj, PtaInspect *req)
{
    PtaVmMonitor *m = obj;
    pta_inspect_u64(req, "events/last", PTA_INSPECT_COUNTER, pta_event_sink_last(m->sink));
    pta_inspect_u64(req, "events/first", PTA_INSPECT_PLAIN, pta_event_sink_first(m->sink));
    pta_monitor_inspect(m->monitor, req);
}

PtaVmMonitor *pta_vm_monitor_new(PtaVm *vm, const char *base_dir, GError **error)
{
    pta_assert_main();
    PtaVmMonitor *m = g_new0(PtaVmMonitor, 1);
    m->vm = vm;
    m->sink = pta_event_sink_new(PTA_EVENT_RING_DEFAULT);
    m->env = (PtaSessionEnv){ .vm = vm, .sink = m->sink, .find = pta_qmp_command_find };
    m->monitor = pta_monitor_new(&m->env, 0);
    pta_vm_add_observer(vm, &observer, m);
    pta_vm_add_inspect(vm, "monitor", inspect, m);
    if (!listen_all(m, base_dir, error)) {
        pta_vm_monitor_free(m);
        return NULL;
    }
    return m;
}

void pta_vm_monitor_free(PtaVmMonitor *m)
{
    if (!m) {
        return;
    }
    pta_vm_remove_observer(m->vm, &observer, m);
    pta_vm_remove_inspect(m->vm, "monitor");
    pta_monitor_free(m->monitor);
    pta_event_sink_free(m->sink);
    g_free(m);
}

PtaEventSink *pta_vm_monitor_sink(PtaVmMonitor *m)
{
    return m->sink;
}
