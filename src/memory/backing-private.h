/* What the files of a backing share: nobody else includes this. */
#ifndef PTA_BACKING_PRIVATE_H
#define PTA_BACKING_PRIVATE_H

#include "src/memory/backing.h"

#define PTA_HUGEPAGE_2M (2 * PTA_MIB)
#define PTA_HUGEPAGE_1G PTA_GIB

/* backing-lock.c: takes the owner's lock on fd's open file description, which must be writable.
 * HOST: another one has it; the message says who, where the host tells. */
bool pta_backing_lock(int fd, const char *name, GError **error);

/* backing-host.c */

/* Binds the pages of a mapping, those that are not there yet, to a node. */
bool pta_backing_bind(void *host, uint64_t size, unsigned node, GError **error);
/* Why this host gives such memory no transparent huge pages, or NULL if it may. */
const char *pta_backing_no_thp(const char *sysfs, bool shared);

#endif
