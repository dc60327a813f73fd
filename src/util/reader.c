/* The list of reading threads, and waiting for them. */
#include "config.h"

#include "src/util/reader.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 100

__thread PtaReader *pta_reader_self;

typedef struct Readers {
    GMutex lock;
    PtaReader *first; /* LOCKED */
    bool asked;       /* LOCKED: the kernel was asked for membarrier() */
    bool fence;       /* LOCKED: it has none */
} Readers;

static Readers *all(void)
{
    static Readers readers;
    return &readers;
}

static bool barrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

static void unregister(gpointer data)
{
    PtaReader *self = data;
    Readers *readers = all();
    g_mutex_lock(&readers->lock);
    PtaReader **at = &readers->first;
    while (*at != self) {
        at = &(*at)->next;
    }
    *at = self->next;
    g_mutex_unlock(&readers->lock);
    pta_reader_self = NULL;
    g_free(self);
}

PtaReader *pta_reader_register(void)
{
    static GPrivate at_exit = G_PRIVATE_INIT(unregister);
    Readers *readers = all();
    PtaReader *self = g_new0(PtaReader, 1);
    g_mutex_lock(&readers->lock);
    if (!readers->asked) {
        readers->fence = !barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        readers->asked = true;
    }
    self->fence = readers->fence;
    self->next = readers->first;
    readers->first = self;
    g_mutex_unlock(&readers->lock);
    g_private_set(&at_exit, self);
    pta_reader_self = self;
    return self;
}

static void wait_for(const PtaReader *r)
{
    uint64_t seen = __atomic_load_n(&r->sections, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; seen % 2 != 0 && __atomic_load_n(&r->sections, __ATOMIC_ACQUIRE) == seen;
         i++) {
        if (i > SPINS) {
            g_usleep(20);
        }
    }
}

void pta_read_wait(void)
{
    g_assert(!pta_reader_self || pta_reader_self->sections % 2 == 0);
    Readers *readers = all();
    g_mutex_lock(&readers->lock);
    /* What was published comes before the looks at the readers, here and, as they see it, there. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (readers->first && !readers->fence && !barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
        g_error("membarrier: the kernel took it back"); /* it said that it has it */
    }
    for (const PtaReader *r = readers->first; r; r = r->next) {
        wait_for(r);
    }
    g_mutex_unlock(&readers->lock);
}
