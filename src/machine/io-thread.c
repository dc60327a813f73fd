/* An I/O thread: a main loop on its own context. */
#include "config.h"

#include "src/machine/io-thread.h"

struct PtaIoThread {
    GMainContext *context; /* CONST */
    GMainLoop *loop;       /* CONST */
    GThread *thread;       /* CONST */
};

static void *io_thread_run(void *data)
{
    PtaIoThread *io = data;
    g_main_context_push_thread_default(io->context);
    g_main_loop_run(io->loop);
    g_main_context_pop_thread_default(io->context);
    return NULL;
}

PtaIoThread *pta_io_thread_new(const char *name, GError **error)
{
    PtaIoThread *io = g_new0(PtaIoThread, 1);
    io->context = g_main_context_new();
    io->loop = g_main_loop_new(io->context, FALSE);
    io->thread = g_thread_try_new(name, io_thread_run, io, error);
    if (!io->thread) {
        pta_io_thread_free(io);
        return NULL;
    }
    return io;
}

static gboolean quit_loop(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

void pta_io_thread_free(PtaIoThread *io)
{
    if (!io) {
        return;
    }
    if (io->thread) {
        /* From inside: a loop that has not begun to run would miss a quit from outside. */
        g_autoptr(GSource) source = g_idle_source_new();
        g_source_set_callback(source, quit_loop, io->loop, NULL);
        g_source_attach(source, io->context);
        g_thread_join(io->thread);
    }
    g_main_loop_unref(io->loop);
    g_main_context_unref(io->context);
    g_free(io);
}

GMainContext *pta_io_thread_context(PtaIoThread *io)
{
    return io->context;
}
