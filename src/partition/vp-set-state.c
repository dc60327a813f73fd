/* The state of all VPs at once: each VP's own thread does its part, so that what is slow on one (a
 * back end's system calls) happens on all of them together. MAIN, stopped. */
#include "config.h"

#include "src/partition/vp-set.h"

#include <string.h>

#include "src/partition/x86-state-table.h"

/* One VP's part. */
typedef struct Part {
    const PtaX86State *bsp;    /* initial registers */
    PtaVpRegistersToSet which; /* of them */
    PtaX86State *state;        /* save, restore */
    GError *error;
} Part;

/* Collects what went wrong: "vp1: …; vp3: …". Frees the errors. */
static bool collect(const PtaVpSet *set, Part *parts, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    int code = PTA_ERROR_GENERIC_ERROR;
    for (unsigned i = pta_vp_set_size(set); i-- > 0;) {
        if (!parts[i].error) {
            continue;
        }
        g_autofree char *line =
            g_strdup_printf("vp%u: %s%s", i, parts[i].error->message, text->len ? "; " : "");
        g_string_prepend(text, line);
        code = parts[i].error->code;
        g_clear_error(&parts[i].error);
    }
    return text->len == 0 || pta_throw(error, code, "%s", text->str);
}

static bool on_all(PtaVpSet *set, PtaVpFn *fn, Part *parts, GError **error)
{
    g_assert(!pta_vp_set_started(set));
    pta_vp_set_call_all(set, fn, parts, sizeof(*parts));
    return collect(set, parts, error);
}

/* ---- reset, scrub ---- */

static void reset_vp(PtaBackendVp *vp, void *data)
{
    Part *part = data;
    PtaX86State *state = g_new(PtaX86State, 1);
    pta_x86_state_reset(state, vp->index, vp->index == 0);
    vp->be->ops->vp_set_state(vp, state, &part->error);
    g_free(state);
}

bool pta_vp_set_reset(PtaVpSet *set, GError **error)
{
    Part parts[PTA_MAX_VPS] = { 0 };
    return on_all(set, reset_vp, parts, error);
}

static void scrub_vp(PtaBackendVp *vp, void *data)
{
    Part *part = data;
    PtaX86State *state = g_new(PtaX86State, 1);
    vp->be->ops->vp_get_state(vp, state);
    uint64_t tsc = state->tsc;
    uint64_t tsc_adjust = state->msrs.tsc_adjust;
    pta_x86_state_reset(state, vp->index, vp->index == 0);
    state->tsc = tsc;
    state->msrs.tsc_adjust = tsc_adjust;
    vp->be->ops->vp_set_state(vp, state, &part->error);
    g_free(state);
}

bool pta_vp_set_scrub(PtaVpSet *set, GError **error)
{
    Part parts[PTA_MAX_VPS] = { 0 };
    return on_all(set, scrub_vp, parts, error);
}

/* ---- initial registers ---- */

static void set_initial_regs(PtaBackendVp *vp, void *data)
{
    Part *part = data;
    PtaX86State *state = g_new(PtaX86State, 1);
    vp->be->ops->vp_get_state(vp, state);
    if (vp->index == 0 && part->which == PTA_VP_REGISTERS_ALL) {
        PtaX86Lapic lapic = state->lapic;
        *state = *part->bsp;
        state->lapic = lapic;
    }
    state->msrs.mtrrs = part->bsp->msrs.mtrrs;
    state->msrs.pat = part->bsp->msrs.pat;
    vp->be->ops->vp_set_state(vp, state, &part->error);
    g_free(state);
}

bool pta_vp_set_set_initial_regs(PtaVpSet *set, const PtaX86State *bsp, PtaVpRegistersToSet which,
                                 GError **error)
{
    Part parts[PTA_MAX_VPS] = { 0 };
    for (unsigned i = 0; i < pta_vp_set_size(set); i++) {
        parts[i].bsp = bsp;
        parts[i].which = which;
    }
    return on_all(set, set_initial_regs, parts, error);
}

/* ---- save, restore ---- */

static void save_vp(PtaBackendVp *vp, void *data)
{
    Part *part = data;
    vp->be->ops->vp_get_state(vp, part->state);
}

json_t *pta_vp_set_save(PtaVpSet *set)
{
    unsigned n = pta_vp_set_size(set);
    Part parts[PTA_MAX_VPS] = { 0 };
    g_autofree PtaX86State *states = g_new(PtaX86State, n);
    for (unsigned i = 0; i < n; i++) {
        parts[i].state = &states[i];
    }
    on_all(set, save_vp, parts, NULL);
    json_t *list = json_array();
    for (unsigned i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:i, s:o}", "vp-index", (int)i, "state",
                                              pta_state_save(&pta_x86_state_desc, &states[i])));
    }
    return list;
}

static void restore_vp(PtaBackendVp *vp, void *data)
{
    Part *part = data;
    vp->be->ops->vp_set_state(vp, part->state, &part->error);
}

/* Takes one element of the list into states[]; seen is a bit a VP. */
static bool parse_vp(json_t *entry, unsigned n, PtaX86State *states, uint64_t *seen, GError **error)
{
    json_t *index = json_object_get(entry, "vp-index");
    json_t *state = json_object_get(entry, "state");
    if (!json_is_integer(index) || !state || json_object_size(entry) != 2) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "expected objects of vp-index and state");
    }
    json_int_t vp = json_integer_value(index);
    if (vp < 0 || vp >= (json_int_t)n) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "unknown entry id: vp%" JSON_INTEGER_FORMAT,
                         vp);
    }
    if (*seen >> vp & 1) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "vp%d: saved twice", (int)vp);
    }
    *seen |= UINT64_C(1) << vp;
    if (!pta_state_load(&pta_x86_state_desc, state, &states[vp], error)) {
        g_prefix_error(error, "vp%d: ", (int)vp);
        return false;
    }
    return true;
}

bool pta_vp_set_restore(PtaVpSet *set, const json_t *saved, GError **error)
{
    unsigned n = pta_vp_set_size(set);
    g_autofree PtaX86State *states = g_new(PtaX86State, n);
    uint64_t seen = 0;
    if (!json_is_array(saved)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "vps: expected an array");
    }
    for (size_t i = 0; i < json_array_size(saved); i++) {
        if (!parse_vp(json_array_get(saved, i), n, states, &seen, error)) {
            return false;
        }
    }
    Part parts[PTA_MAX_VPS] = { 0 };
    for (unsigned i = 0; i < n; i++) {
        if (!(seen >> i & 1)) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "vp%u: missing", i);
        }
        parts[i].state = &states[i];
    }
    return on_all(set, restore_vp, parts, error);
}
