/* What the files of a backing share: nobody else includes this. */
#ifndef PTA_BACKING_PRIVATE_H
#define PTA_BACKING_PRIVATE_H

#include "src/memory/backing.h"

#define PTA_HUGEPAGE_2M (2 * PTA_MIB)
#define PTA_HUGEPAGE_1G PTA_GIB

/* backing.c */

/* A descriptor of its own for whoever is to share the memory, but not the lock; -1 and *error. */
int pta_backing_reopen(const PtaBacking *backing, GError **error);
/* The pages of a descriptor: 4096, or the size of its huge pages. 0 and *error if it is no memory:
 * neither a file of tmpfs nor of hugetlbfs. */
uint64_t pta_backing_page_size_of(int fd, GError **error);
/* An existing descriptor, taken from the caller whatever comes of it, without owning it. */
PtaBacking *pta_backing_new_shared(int fd, uint64_t size, uint64_t page_size, GError **error);

/* backing-lock.c: takes the owner's lock on fd's open file description, which must be writable.
 * HOST: another one has it; the message says who, where the host tells. */
bool pta_backing_lock(int fd, const char *name, GError **error);

/* backing-host.c */

/* Binds the pages of a mapping, those that are not there yet, to a node. */
bool pta_backing_bind(void *host, uint64_t size, unsigned node, GError **error);
/* Why this host gives such memory no transparent huge pages, or NULL if it may. */
const char *pta_backing_no_thp(const char *sysfs, bool shared);

#endif
