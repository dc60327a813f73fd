/*
 * Memory of a device that its guest may map somewhere: video memory, a BAR. What it consists of
 * (mappings) and where the guest sees it are independent: either may come first, and change later.
 * RAM at the same place is stronger, and hides it.
 *
 * Threads: any one at a time for one object; what changes the view is called while no VP runs.
 */
#ifndef PTA_DEVICE_MEMORY_H
#define PTA_DEVICE_MEMORY_H

#include "src/memory/memory.h"

typedef struct PtaDeviceMemory PtaDeviceMemory;

/* `size` bytes of guest addresses, whole pages, with nothing in them. */
PtaDeviceMemory *pta_device_memory_new(PtaMemory *mem, const char *name, uint64_t size);
/* Shown nowhere any more: unmapped from the guest first, which no partition refused. */
void pta_device_memory_free(PtaDeviceMemory *dm);

/* Memory at `offset`. BAD_STATE: there is some already. */
bool pta_device_memory_map(PtaDeviceMemory *dm, uint64_t offset, uint64_t size, PtaBacking *backing,
                           uint64_t backing_offset, bool writable, GError **error);
/* Takes away what lies within [offset, offset + size). BAD_STATE: something does so only in part. */
bool pta_device_memory_unmap(PtaDeviceMemory *dm, uint64_t offset, uint64_t size, GError **error);

/*
 * Shows it at gpa, and no longer where it was before. Not writable: the guest's writes go to registers.
 * If that fails it is where it was.
 */
bool pta_device_memory_map_to_guest(PtaDeviceMemory *dm, uint64_t gpa, bool writable,
                                    GError **error);
bool pta_device_memory_unmap_from_guest(PtaDeviceMemory *dm, GError **error);
/* Where it is; false: nowhere. */
bool pta_device_memory_where(const PtaDeviceMemory *dm, uint64_t *gpa);

#endif
