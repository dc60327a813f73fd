/* The layout of memory that another process sends. What is taken is sound, and prints to the same. */
#include "config.h"

#include "src/memory/backing-share.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const PtaSharedLayout *l)
{
    g_assert(l->n_backings > 0 && l->n_backings <= PTA_SHARE_BACKINGS);
    g_assert(l->n_ranges > 0 && l->n_ranges <= PTA_SHARE_RANGES);
    uint64_t end = 0;
    for (size_t i = 0; i < l->n_ranges; i++) {
        const PtaSharedRange *r = &l->ranges[i];
        g_assert(r->backing < l->n_backings && r->size > 0 && r->gpa >= end);
        g_assert((r->size | r->offset) % l->page_size[r->backing] == 0);
        g_assert(r->offset + r->size > r->offset && r->offset + r->size <= l->size[r->backing]);
        g_assert(r->gpa + r->size > r->gpa);
        end = r->gpa + r->size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree PtaSharedLayout *layout = g_new(PtaSharedLayout, 1);
    g_autofree PtaSharedLayout *again = g_new(PtaSharedLayout, 1);
    g_autoptr(GError) error = NULL;
    if (!pta_shared_layout_parse(layout, (const char *)data, size, &error)) {
        g_assert(error != NULL);
        return 0;
    }
    g_assert(error == NULL);
    check(layout);
    json_t *json = pta_shared_layout_to_json(layout);
    char *text = json_dumps(json, JSON_COMPACT);
    g_assert(pta_shared_layout_parse(again, text, strlen(text), NULL));
    g_assert(memcmp(layout, again, sizeof(*layout)) == 0);
    free(text);
    json_decref(json);
    return 0;
}
