/*
 * Writes ACPI machine language (ACPI 6.4, chapter 20) into a growing buffer: only the terms that a
 * machine's description needs. What opens a block is closed by pta_aml_end(), which fills in its
 * length. Names and nesting are the caller's own: mistakes in them are our bug and asserted.
 */
#ifndef PTA_BOOT_AML_H
#define PTA_BOOT_AML_H

#include "src/util/util.h"

#define PTA_AML_MAX_DEPTH 16

typedef struct PtaAml {
    GByteArray *out;                /* the caller's */
    size_t open[PTA_AML_MAX_DEPTH]; /* where the length of each open block goes */
    unsigned depth;
} PtaAml;

typedef enum PtaAmlSpace {
    PTA_AML_SYSTEM_MEMORY = 0,
    PTA_AML_SYSTEM_IO = 1,
} PtaAmlSpace;

/* `out` may hold something already, such as a table's header. */
void pta_aml_init(PtaAml *aml, GByteArray *out);

/* Names are paths: "_HID", "\\_SB", "\\_SB.PWRB"; segments are padded with '_'. */
void pta_aml_scope(PtaAml *aml, const char *name);
void pta_aml_device(PtaAml *aml, const char *name);
void pta_aml_method(PtaAml *aml, const char *name, unsigned n_args, bool serialized);
void pta_aml_if(PtaAml *aml); /* the predicate follows, then the body */
void pta_aml_package(PtaAml *aml, uint8_t n_elements);
void pta_aml_end(PtaAml *aml);

/* Name(name, …): a data term follows. */
void pta_aml_name(PtaAml *aml, const char *name);
void pta_aml_int(PtaAml *aml, uint64_t value);
void pta_aml_string(PtaAml *aml, const char *text);
void pta_aml_eisaid(PtaAml *aml, const char *id); /* "PNP0501" */

void pta_aml_name_int(PtaAml *aml, const char *name, uint64_t value);
void pta_aml_name_string(PtaAml *aml, const char *name, const char *text);

/* OperationRegion(region, …) and one field of 32 bits in it, at its start. */
void pta_aml_region_u32(PtaAml *aml, const char *region, PtaAmlSpace space, uint64_t base,
                        const char *field);

/* Statements and expressions. */
void pta_aml_store_to_local(PtaAml *aml, const char *source, unsigned local);
void pta_aml_and_local(PtaAml *aml, unsigned local, uint64_t mask); /* expression: LocalN & mask */
void pta_aml_notify(PtaAml *aml, const char *object, uint8_t value);

/* A resource template under construction, for one _CRS. */
typedef struct PtaAmlResources {
    GByteArray *bytes;
} PtaAmlResources;

void pta_aml_crs_begin(PtaAmlResources *crs);
void pta_aml_crs_io(PtaAmlResources *crs, uint16_t base, uint8_t size);
void pta_aml_crs_memory(PtaAmlResources *crs, uint64_t base, uint64_t size);
/* IRQ descriptor without flags: edge, active high, 0 to 15. */
void pta_aml_crs_isa_irq(PtaAmlResources *crs, unsigned irq);
/* Extended interrupt descriptor: active high, exclusive. */
void pta_aml_crs_interrupt(PtaAmlResources *crs, uint32_t gsi, bool level);
/* Writes Name(_CRS, ResourceTemplate() {…}) and releases it. */
void pta_aml_crs_end(PtaAmlResources *crs, PtaAml *aml);

#endif
