/*
 * ThreadSanitizer sees only what it compiled: GLib's mutexes are futexes inside a library that it did
 * not. In such a build these macros tell it what the locks mean. Do not use GMutexLocker: its inline
 * functions come before the macros.
 */
#ifndef PTA_TSAN_H
#define PTA_TSAN_H

#include <glib.h>

#ifdef PTA_TSAN

#include <sanitizer/tsan_interface.h>

#define PTA_TSAN_RELEASE(addr) __tsan_release((void *)(addr))
#define PTA_TSAN_ACQUIRE(addr) __tsan_acquire((void *)(addr))

#define PTA_TSAN_LOCK(lock, m) \
    (__tsan_mutex_pre_lock((m), 0), (lock)(m), __tsan_mutex_post_lock((m), 0, 0))
#define PTA_TSAN_UNLOCK(unlock, m) \
    (__tsan_mutex_pre_unlock((m), 0), (unlock)(m), __tsan_mutex_post_unlock((m), 0))
#define PTA_TSAN_REC __tsan_mutex_write_reentrant

static inline void pta_tsan_cond_wait(GCond *cond, GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    __tsan_mutex_post_unlock(mutex, 0);
    g_cond_wait(cond, mutex);
    __tsan_mutex_pre_lock(mutex, 0);
    __tsan_mutex_post_lock(mutex, 0, 0);
}

static inline gboolean pta_tsan_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    __tsan_mutex_post_unlock(mutex, 0);
    gboolean in_time = g_cond_wait_until(cond, mutex, end);
    __tsan_mutex_pre_lock(mutex, 0);
    __tsan_mutex_post_lock(mutex, 0, 0);
    return in_time;
}

static inline gboolean pta_tsan_trylock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
    gboolean got = g_mutex_trylock(mutex);
    __tsan_mutex_post_lock(mutex, __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed),
                           0);
    return got;
}

static inline void pta_tsan_rec_lock(GRecMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, PTA_TSAN_REC);
    g_rec_mutex_lock(mutex);
    __tsan_mutex_post_lock(mutex, PTA_TSAN_REC, 1);
}

static inline void pta_tsan_rec_unlock(GRecMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, PTA_TSAN_REC);
    g_rec_mutex_unlock(mutex);
    __tsan_mutex_post_unlock(mutex, PTA_TSAN_REC);
}

#define g_mutex_lock(m)              PTA_TSAN_LOCK(g_mutex_lock, m)
#define g_mutex_unlock(m)            PTA_TSAN_UNLOCK(g_mutex_unlock, m)
#define g_mutex_trylock(m)           pta_tsan_trylock(m)
#define g_cond_wait(c, m)            pta_tsan_cond_wait(c, m)
#define g_cond_wait_until(c, m, end) pta_tsan_cond_wait_until(c, m, end)
#define g_rec_mutex_lock(m)          pta_tsan_rec_lock(m)
#define g_rec_mutex_unlock(m)        pta_tsan_rec_unlock(m)

#else

/* Publishing through something that the sanitizer cannot see: a GSource, a GAsyncQueue. */
#define PTA_TSAN_RELEASE(addr) ((void)(addr))
#define PTA_TSAN_ACQUIRE(addr) ((void)(addr))

#endif

#endif
