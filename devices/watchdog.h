/*
 * A watchdog as the ACPI table WDAT describes it (Microsoft, "Hardware Watchdog Timers Design
 * Specification"): the guest starts a countdown and has to reload it again and again; if it does not,
 * the watchdog asks the machine for a halt. Time is the partition's, so it stands still while VPs do.
 *
 * Registers are of 32 bits, memory-mapped; src/boot/acpi.c describes them from here. Other accesses
 * read as zero and write nothing.
 *
 * A reset stops the countdown and forgets what was set; STATUS survives it, as it is what tells the
 * next boot why there was one.
 */
#ifndef PTA_WATCHDOG_H
#define PTA_WATCHDOG_H

#include "devices/device.h"

#define PTA_WATCHDOG_SIZE 0x18

/* Offsets from PtaPlacedDevice.base. */
#define PTA_WATCHDOG_RELOAD        0x00 /* WO: 1 makes LEFT what COUNT is */
#define PTA_WATCHDOG_COUNT         0x04 /* RW: periods; clamped to what follows */
#define PTA_WATCHDOG_LEFT          0x08 /* RO: periods left, rounded up; stands still while stopped */
#define PTA_WATCHDOG_CONTROL       0x0c /* RW: 1 reloads and starts, no effect if it runs; 0 stops */
#define PTA_WATCHDOG_EXPIRY        0x10 /* RW: what is to follow, one of the two below */
#define PTA_WATCHDOG_STATUS        0x14 /* RW: 1 if it has expired; writing 1 clears it */

#define PTA_WATCHDOG_REBOOT        0u
#define PTA_WATCHDOG_SHUTDOWN      1u

#define PTA_WATCHDOG_PERIOD_MS     100
#define PTA_WATCHDOG_COUNT_MIN     1
#define PTA_WATCHDOG_COUNT_MAX     0xffff
#define PTA_WATCHDOG_COUNT_DEFAULT 300

#endif
