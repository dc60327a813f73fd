/*
 * Power by hardware-reduced ACPI (ACPI 6.4, 4.8.3.7 and 5.6.9): sleep control and status registers,
 * a reset register, and the selector of a generic event device with its power button. All are
 * 8-bit or 32-bit ports of one PTA_PLACED_POWER place; src/boot/acpi.c describes them from here.
 *
 * Beside it, as PTA_PLACED_LEGACY_RESET, two write-only ports of the PC: 0xfe to 0x64 (keyboard
 * controller) and bits 1 and 2 to 0xcf9 reset the machine; a read answers all ones, so that nobody
 * takes it for a keyboard controller.
 */
#ifndef PTA_POWER_H
#define PTA_POWER_H

#include "devices/device.h"

#define PTA_POWER_PIO_BASE 0x600
#define PTA_POWER_PIO_SIZE 8

/* Offsets from PtaPlacedDevice.base. */
#define PTA_POWER_SLEEP_CONTROL 0 /* 8 bits: FADT SLEEP_CONTROL_REG */
#define PTA_POWER_SLEEP_STATUS  1 /* 8 bits: FADT SLEEP_STATUS_REG */
#define PTA_POWER_RESET_REG     2 /* 8 bits: FADT RESET_REG */
#define PTA_POWER_GED_SELECT    4 /* 32 bits: a read answers the pending events and clears them */

#define PTA_POWER_RESET_VALUE   0x01 /* FADT RESET_VALUE */
#define PTA_POWER_S5_TYPE       5    /* SLP_TYP of \_S5 */

/* Bits of the event selector. The device's interrupt (edge, active high) says that one is set. */
#define PTA_POWER_GED_BUTTON (1u << 0) /* Notify(power button, 0x80) */

/* Not in the description's schema: every machine has one. realize() takes no config (NULL). */
extern const PtaDeviceClass pta_power_class;

/* Presses the power button. Any thread. */
void pta_power_button(PtaDevice *dev);

#endif
