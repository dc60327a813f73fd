/*
 * An I/O APIC of version 0x20 (with EOI register) as in Intel's 82093AA datasheet and ICH
 * specifications: index and data window, redirection table, edge and level inputs with remote IRR.
 * What it has to deliver goes out as an MSI: address and data in the form of SDM vol. 3, 10.11.
 *
 * Threads: inputs, registers and EOI from any thread; LOCKED by its own lock, which is never held
 * while a message is delivered or a route is told.
 */
#ifndef PTA_IOAPIC_H
#define PTA_IOAPIC_H

#include "devices/device.h"

#define PTA_IOAPIC_BASE     UINT64_C(0xfec00000)
#define PTA_IOAPIC_MAX_PINS 120

typedef struct PtaIoapicConfig {
    unsigned n_pins; /* 24 to PTA_IOAPIC_MAX_PINS */
    uint64_t base;   /* PTA_IOAPIC_BASE */
    void (*msi)(void *opaque, uint64_t address, uint32_t data);
    /* What the pin sends from now on, in the form of msi(); address 0: nothing, it is masked. Told at
     * each change, also by reset and restore, one call at a time; nothing is sent on behalf of the pin
     * before this has returned. At first all are masked. May be NULL. */
    void (*route)(void *opaque, unsigned pin, uint64_t address, uint32_t data);
    /* How many interrupts went by a pin's route and not through here; for inspect. May be NULL. */
    uint64_t (*n_direct)(void *opaque, unsigned pin);
    void *opaque;
} PtaIoapicConfig;

/* Not in the description's schema. config: PtaIoapicConfig. */
extern const PtaDeviceClass pta_ioapic_class;

/* An input changes; fits PtaIrqLine.set and pta_mmio_manager_connect() (opaque: the PtaDevice). */
void pta_ioapic_set(void *ioapic, unsigned pin, bool level);

/* A local APIC finished a level-triggered interrupt (PtaPlatform.eoi). */
void pta_ioapic_eoi(PtaDevice *ioapic, uint8_t vector);

/* Whether an unmasked level-triggered entry has this vector: whoever offers the back end's EOI
 * exits by vector wants to know. */
bool pta_ioapic_has_level_vector(PtaDevice *ioapic, uint8_t vector);

#endif
