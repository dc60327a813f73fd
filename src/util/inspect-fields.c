/* Fields of inspect by table, and those kept by atomics. No state of its own. */
#include "config.h"

#include "src/util/inspect.h"

#include <string.h>

/* ---- tables ---- */

static uint64_t load(const void *at, size_t size)
{
    uint64_t value = 0;
    switch (size) {
    case 1:
        value = *(const uint8_t *)at;
        break;
    case 2:
        value = *(const uint16_t *)at;
        break;
    case 4:
        value = *(const uint32_t *)at;
        break;
    default:
        value = *(const uint64_t *)at;
        break;
    }
    return value;
}

static void inspect_field(PtaInspect *req, const PtaInspectField *f, const void *at)
{
    switch (f->kind) {
    case PTA_INSPECT_FIELD_BOOL:
        pta_inspect_bool(req, f->name, f->flags, *(const bool *)at);
        break;
    case PTA_INSPECT_FIELD_U8:
        pta_inspect_u64(req, f->name, f->flags, load(at, 1));
        break;
    case PTA_INSPECT_FIELD_U16:
        pta_inspect_u64(req, f->name, f->flags, load(at, 2));
        break;
    case PTA_INSPECT_FIELD_U32:
        pta_inspect_u64(req, f->name, f->flags, load(at, 4));
        break;
    case PTA_INSPECT_FIELD_U64:
        pta_inspect_u64(req, f->name, f->flags, load(at, 8));
        break;
    case PTA_INSPECT_FIELD_S64:
        pta_inspect_s64(req, f->name, f->flags, *(const int64_t *)at);
        break;
    case PTA_INSPECT_FIELD_STR: {
        const char *text = *(char *const *)at;
        if (text) {
            pta_inspect_str(req, f->name, f->flags, text);
        }
        break;
    }
    case PTA_INSPECT_FIELD_ENUM: {
        uint64_t n = load(at, sizeof(unsigned));
        if (n < f->n_names) {
            pta_inspect_str(req, f->name, f->flags, f->names[n]);
        } else {
            pta_inspect_u64(req, f->name, f->flags, n);
        }
        break;
    }
    }
}

void pta_inspect_fields(PtaInspect *req, const PtaInspectField *fields, const void *base)
{
    for (const PtaInspectField *f = fields; f->name; f++) {
        inspect_field(req, f, (const char *)base + f->offset);
    }
}

/* ---- values as they are typed ---- */

bool pta_inspect_parse_bool(const char *text, bool *value, GError **error)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "expected true or false, found %s",
                         text);
    }
    *value = yes;
    return true;
}

bool pta_inspect_parse_u64(const char *text, uint64_t max, uint64_t *value, GError **error)
{
    bool hex = g_str_has_prefix(text, "0x");
    guint64 n;
    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, max, &n, NULL)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "expected a number up to %" G_GUINT64_FORMAT ", found %s", max, text);
    }
    *value = n;
    return true;
}

/* ---- atomics ---- */

typedef struct Atomic {
    void *value; /* bool or uint64_t */
    uint64_t max;
    unsigned flags; /* of the field, for the value itself */
} Atomic;

static void get_bool(void *obj, PtaInspect *req)
{
    Atomic *a = obj;
    pta_inspect_bool(req, "", a->flags, __atomic_load_n((bool *)a->value, __ATOMIC_RELAXED));
}

static bool set_bool(void *obj, const char *text, GError **error)
{
    Atomic *a = obj;
    bool value = false;
    if (!pta_inspect_parse_bool(text, &value, error)) {
        return false;
    }
    __atomic_store_n((bool *)a->value, value, __ATOMIC_RELAXED);
    return true;
}

void pta_inspect_atomic_bool(PtaInspect *req, const char *name, unsigned flags, bool *value)
{
    Atomic a = { .value = value, .flags = flags };
    pta_inspect_mutable(req, name, flags, get_bool, set_bool, &a);
}

static void get_u64(void *obj, PtaInspect *req)
{
    Atomic *a = obj;
    pta_inspect_u64(req, "", a->flags, __atomic_load_n((uint64_t *)a->value, __ATOMIC_RELAXED));
}

static bool set_u64(void *obj, const char *text, GError **error)
{
    Atomic *a = obj;
    uint64_t value = 0;
    if (!pta_inspect_parse_u64(text, a->max, &value, error)) {
        return false;
    }
    __atomic_store_n((uint64_t *)a->value, value, __ATOMIC_RELAXED);
    return true;
}

void pta_inspect_atomic_u64(PtaInspect *req, const char *name, unsigned flags, uint64_t *value,
                            uint64_t max)
{
    Atomic a = { .value = value, .max = max, .flags = flags };
    pta_inspect_mutable(req, name, flags, get_u64, set_u64, &a);
}
