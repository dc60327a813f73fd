/*
 * A machine moves from one back end to the next with all its state, and the guest must not notice.
 *
 *     move MACHINE.json BACKEND BACKEND…
 *
 * The description's first device is a 16550 whose chardev is a file that is appended to; the guest
 * writes lines to it for as long as it lives:
 *
 *     beat N at SECONDS ok        or, instead of ok, what it found wrong
 *
 * N counts up by one, SECONDS is its clock. The machine boots with the first back end; after some beats it is
 * stopped, its units and RAM are saved, it is taken down, and a new one of the same description with
 * the next back end is given both. In between the host lets a while go by, of which the guest must see nothing. Prints TAP.
 */
#include "config.h"

#include "src/machine/machine-private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BEATS     4
#define FIRST_S   300 /* until the first beat: the guest boots */
#define BEATS_S   120
#define PAUSE_US  1200000
#define SLACK     0.6 /* seconds: less than the pause */
#define LAG       5.0 /* seconds that a busy host may take to see a beat, whenever it looks */
#define MAX_MOVES 16

typedef struct Move {
    json_t *description;
    char *base_dir;
    char *console; /* path */
    size_t seen;   /* bytes of it that were looked at */
    unsigned n_beats;
    bool tsc_fixed; /* this host's KVM does not let TSCs be set */
    unsigned tsc_jumps;
    double last; /* the guest's time of the last beat */
    char *wrong; /* what the guest, or its beats, had wrong first */
    PtaVm *vm;
    MachineConfig *config;
    double
        ahead; /* least of what the machine's clock was ahead of the guest's when a beat was seen */
} Move;

typedef struct Saved {
    json_t *units;
    GPtrArray *ram; /* of GBytes, one a range */
    uint64_t clock_ns;
    uint64_t tsc[PTA_MAX_VPS];
} Saved;

static unsigned n_tests, n_failed;

static bool ok(bool good, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool ok(bool good, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    printf("%s %u - %s\n", good ? "ok" : "not ok", ++n_tests, text);
    fflush(stdout);
    n_failed += !good;
    return good;
}

/* ---- the machine ---- */

static PtaBackend *backend(const Move *m)
{
    return pta_partition_backend(pta_vm_partition(m->vm));
}

static uint64_t clock_ns(const Move *m)
{
    return backend(m)->ops->clock_ns(backend(m));
}

static bool make(Move *m, const char *name)
{
    g_autoptr(GError) error = NULL;
    json_t *partition = json_object_get(m->description, "partition");
    json_object_set_new(partition, "backend", json_string(name));
    m->config = machine_config_from_json(m->description, "description", &error);
    m->vm = m->config ? pta_vm_new(m->config, m->base_dir, &error) : NULL;
    return ok(m->vm != NULL, "a machine on %s%s%s", name, error ? ": " : "",
              error ? error->message : "");
}

static void take_down(Move *m)
{
    g_clear_pointer(&m->vm, pta_vm_free);
    g_clear_pointer(&m->config, machine_config_free);
}

static void on_done(void *data, const GError *error)
{
    char **text = data;
    if (error) {
        *text = g_strdup(error->message);
    }
}

static bool request(Move *m, void (*fn)(PtaVm *, PtaVmDone *, void *), const char *what)
{
    g_autofree char *error = NULL;
    fn(m->vm, on_done, &error);
    bool in_time = pta_vm_wait(m->vm, 30000);
    return (in_time && !error) || ok(false, "%s: %s", what, error ? error : "it does not end");
}

/* ---- what the guest says ---- */

static void wrong(Move *m, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void wrong(Move *m, const char *format, ...)
{
    if (!m->wrong) {
        va_list ap;
        va_start(ap, format);
        m->wrong = g_strdup_vprintf(format, ap);
        va_end(ap);
    }
}

static void hear(Move *m, const char *line)
{
    unsigned n;
    double at;
    char word[32];
    const char *beat = strstr(line, "beat ");
    if (!beat || sscanf(beat, "beat %u at %lf %31s", &n, &at, word) != 3) {
        if (strstr(line, "Kernel panic") || strstr(line, "BUG:") || strstr(line, "Oops")) {
            wrong(m, "the guest says \"%s\"", line);
        }
        return;
    }
    /* kvm_pvm's guests have the host's TSC. */
    if (strcmp(word, "the-tsc-jumped") == 0 && m->tsc_fixed) {
        m->tsc_jumps++;
    } else if (strcmp(word, "ok") != 0) {
        wrong(m, "the guest says \"%s\"", line);
    }
    if (n != m->n_beats + 1) {
        wrong(m, "beat %u after %u", n, m->n_beats);
    }
    if (m->n_beats > 0 && at <= m->last) {
        wrong(m, "beat %u: the clock went from %g to %g", n, m->last, at);
    }
    m->n_beats = n;
    m->last = at;
    m->ahead = MIN(m->ahead, (double)clock_ns(m) / 1e9 - at);
}

/* Whole lines that have come since. */
static void listen(Move *m)
{
    g_autofree char *text = NULL;
    gsize len = 0;
    if (!g_file_get_contents(m->console, &text, &len, NULL) || len <= m->seen) {
        return;
    }
    const char *end;
    while ((end = memchr(text + m->seen, '\n', len - m->seen))) {
        g_autofree char *line = g_strndup(text + m->seen, (gsize)(end - text) - m->seen);
        hear(m, g_strstrip(line));
        m->seen = (size_t)(end - text) + 1;
    }
}

static gboolean tick(gpointer data)
{
    (void)data;
    return G_SOURCE_CONTINUE;
}

/* Until the guest has made that many beats; false: it has not. */
static bool wait_for(Move *m, unsigned beats, unsigned seconds)
{
    gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    guint timer = g_timeout_add(10, tick, NULL);
    while (m->n_beats < beats && !m->wrong && g_get_monotonic_time() < end &&
           pta_vm_state(m->vm) == PTA_RUN_STATE_RUNNING) {
        g_main_context_iteration(NULL, TRUE);
        listen(m);
    }
    g_source_remove(timer);
    if (m->wrong) {
        return ok(false, "%s", m->wrong);
    }
    const char *state = pta_run_state_name(pta_vm_state(m->vm));
    return m->n_beats >= beats || ok(false, "%u beats instead of %u in %u s; the machine is %s",
                                     m->n_beats, beats, seconds, state);
}

static bool beats(Move *m, const char *name, bool booted)
{
    unsigned before = m->n_beats;
    m->ahead = INFINITY;
    if (!request(m, pta_vm_cont, "cont") || !wait_for(m, before + 1, booted ? FIRST_S : BEATS_S) ||
        !wait_for(m, before + BEATS, BEATS_S)) {
        return false;
    }
    return ok(true, "%u beats on %s, clock at %.3f s", m->n_beats - before, name, m->last);
}

/* ---- its state ---- */

static void on_saved(void *data, json_t *saved, const GError *error)
{
    Saved *s = data;
    if (error) {
        ok(false, "save: %s", error->message);
    } else {
        s->units = json_deep_copy(saved);
    }
}

static GPtrArray *read_ram(PtaMemory *mem)
{
    GPtrArray *ram = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        PtaRamRange range = pta_memory_range(mem, i);
        uint8_t *copy = g_malloc(range.size);
        g_assert(pta_memory_read(mem, range.gpa, copy, range.size) == PTA_MEM_OK);
        g_ptr_array_add(ram, g_bytes_new_take(copy, range.size));
    }
    return ram;
}

static void write_ram(PtaMemory *mem, const GPtrArray *ram)
{
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        PtaRamRange range = pta_memory_range(mem, i);
        gsize size;
        const void *data = g_bytes_get_data(g_ptr_array_index(ram, i), &size);
        g_assert(size == range.size);
        g_assert(pta_memory_write(mem, range.gpa, data, size) == PTA_MEM_OK);
    }
}

static void note_times(const Move *m, Saved *s)
{
    PtaVpSet *vps = pta_partition_vps(pta_vm_partition(m->vm));
    s->clock_ns = clock_ns(m);
    for (unsigned i = 0; i < pta_vp_set_size(vps); i++) {
        s->tsc[i] = backend(m)->ops->vp_tsc(pta_vp_set_get(vps, i));
    }
}

static void saved_clear(Saved *s)
{
    g_clear_pointer(&s->units, json_decref);
    g_clear_pointer(&s->ram, g_ptr_array_unref);
}

static bool save(Move *m, Saved *s)
{
    saved_clear(s);
    if (!request(m, pta_vm_stop, "stop")) {
        return false;
    }
    listen(m);
    pta_units_save(m->vm->units, on_saved, s);
    while (pta_units_busy(m->vm->units)) {
        g_main_context_iteration(NULL, TRUE);
    }
    note_times(m, s);
    s->ram = read_ram(pta_vm_memory(m->vm));
    return s->units != NULL;
}

static void on_restored(void *data, json_t *saved, const GError *error)
{
    (void)saved;
    *(bool *)data = error == NULL;
    if (error) {
        ok(false, "restore: %s", error->message);
    }
}

static bool restore(Move *m, const Saved *s)
{
    bool good = false;
    Saved now = { 0 };
    write_ram(pta_vm_memory(m->vm), s->ram);
    pta_units_restore(m->vm->units, s->units, on_restored, &good);
    while (pta_units_busy(m->vm->units)) {
        g_main_context_iteration(NULL, TRUE);
    }
    note_times(m, &now);
    return good && ok(now.clock_ns == s->clock_ns && memcmp(now.tsc, s->tsc, sizeof(s->tsc)) == 0,
                      "clock and TSCs are what they were");
}

/* ---- moving ---- */

static bool move_to(Move *m, Saved *s, const char *name)
{
    double ahead = m->ahead;
    g_usleep(PAUSE_US);
    if (!make(m, name) || !restore(m, s) || !beats(m, name, false)) {
        return false;
    }
    /* Had it seen the pause, its clock would be nearer to the machine's; had it stood still, farther. */
    return ok(
        m->ahead > ahead - SLACK && m->ahead < ahead + LAG,
        "the guest did not see the move: its clock is %.3f s behind the machine's, and was %.3f s",
        m->ahead, ahead);
}

static bool run(Move *m, char **names, unsigned n)
{
    Saved saved = { 0 };
    bool good = make(m, names[0]) && beats(m, names[0], true);
    for (unsigned i = 1; good && i < n; i++) {
        good = save(m, &saved);
        take_down(m);
        good = good && move_to(m, &saved, names[i]);
    }
    if (good) {
        good = request(m, pta_vm_stop, "stop");
    }
    take_down(m);
    saved_clear(&saved);
    return good;
}

/* One frequency for all: what KVM has here, unless the description says one. */
static void choose_frequency(Move *m)
{
    json_t *partition = json_object_get(m->description, "partition");
#ifdef PTA_HAVE_KVM
    if (!json_object_get(partition, "tsc-frequency") && pta_kvm_backend.probe(NULL)) {
        uint64_t hz = pta_kvm_backend.tsc_hz(NULL);
        json_object_set_new(partition, "tsc-frequency", json_integer((json_int_t)hz));
    }
#endif
    (void)partition;
}

static bool load(Move *m, const char *path)
{
    json_error_t error;
    m->description = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    json_t *device = json_array_get(json_object_get(m->description, "devices"), 0);
    const char *console =
        json_string_value(json_object_get(json_object_get(device, "chardev"), "path"));
    if (!console || !json_object_get(m->description, "partition")) {
        fprintf(stderr, "move: %s: %s\n", path,
                m->description ? "no console or partition" : error.text);
        return false;
    }
    m->base_dir = g_path_get_dirname(path);
    m->console = pta_resolve_path(m->base_dir, console);
    return true;
}

int main(int argc, char **argv)
{
    Move m = { 0 };
    pta_thread_init_main();
    if (argc < 3 || argc > MAX_MOVES || !load(&m, argv[1])) {
        fprintf(stderr, "usage: move MACHINE.json BACKEND...\n");
        return 2;
    }
    m.tsc_fixed = g_file_test("/sys/module/kvm_pvm", G_FILE_TEST_IS_DIR);
    remove(m.console);
    choose_frequency(&m);
    bool good = run(&m, argv + 2, (unsigned)argc - 2);
    if (m.tsc_jumps > 0) {
        printf("# the TSC jumped %u times: kvm_pvm shows the host's\n", m.tsc_jumps);
    }
    ok(!good || m.tsc_jumps < (unsigned)argc - 2, "nor more often than the machine moved");
    printf("1..%u\n", n_tests);
    json_decref(m.description);
    g_free(m.base_dir);
    g_free(m.console);
    g_free(m.wrong);
    return good && n_failed == 0 ? 0 : 1;
}
