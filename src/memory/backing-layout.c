/* The layout of shared memory as JSON: printed, and read from who knows whom. Pure functions. */
#include "config.h"

#include "src/memory/backing-private.h"
#include "src/memory/backing-share.h"

#include <inttypes.h>

#define LAYOUT_VERSION 1
#define MAX_ADDRESS    (UINT64_C(1) << 52) /* what an x86 can address */

json_t *pta_shared_layout_to_json(const PtaSharedLayout *layout)
{
    json_t *backings = json_array(), *ranges = json_array();
    for (size_t i = 0; i < layout->n_backings; i++) {
        json_array_append_new(backings, json_pack("{s:I,s:I}", "size", (json_int_t)layout->size[i],
                                                  "page-size", (json_int_t)layout->page_size[i]));
    }
    for (size_t i = 0; i < layout->n_ranges; i++) {
        const PtaSharedRange *r = &layout->ranges[i];
        json_array_append_new(ranges, json_pack("{s:I,s:I,s:i,s:I}", "gpa", (json_int_t)r->gpa,
                                                "size", (json_int_t)r->size, "backing",
                                                (int)r->backing, "offset", (json_int_t)r->offset));
    }
    return json_pack("{s:i,s:o,s:o}", "partita-memory", LAYOUT_VERSION, "backings", backings,
                     "ranges", ranges);
}

static bool bad(GError **error, const char *what, size_t i, const char *text)
{
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "memory to be taken: $.%s[%zu]: %s", what, i,
                     text);
}

static bool is_page_size(json_int_t n)
{
    return n == (json_int_t)PTA_PAGE_SIZE || n == (json_int_t)PTA_HUGEPAGE_2M ||
           n == (json_int_t)PTA_HUGEPAGE_1G;
}

static bool parse_backing(PtaSharedLayout *layout, json_t *json, GError **error)
{
    size_t i = layout->n_backings;
    json_int_t size, page;
    if (json_unpack(json, "{s:I,s:I !}", "size", &size, "page-size", &page) < 0) {
        return bad(error, "backings", i, "expected an object of size and page-size");
    }
    if (!is_page_size(page)) {
        return bad(error, "backings", i, "expected a page-size of 4096, 2097152 or 1073741824");
    }
    if (size <= 0 || size > (json_int_t)MAX_ADDRESS || size % page != 0) {
        return bad(error, "backings", i, "expected a size that is a multiple of its page-size");
    }
    layout->size[i] = (uint64_t)size;
    layout->page_size[i] = (uint64_t)page;
    layout->n_backings++;
    return true;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static bool check_range(const PtaSharedLayout *layout, size_t i, GError **error)
{
    const PtaSharedRange *r = &layout->ranges[i];
    uint64_t page = layout->page_size[r->backing];
    if (r->size == 0 || (r->size | r->offset) % page != 0 || r->gpa % PTA_PAGE_SIZE != 0) {
        return bad(error, "ranges", i, "expected whole pages");
    }
    if (r->offset > layout->size[r->backing] || r->size > layout->size[r->backing] - r->offset) {
        return bad(error, "ranges", i, "expected a range within its backing");
    }
    if (r->gpa > MAX_ADDRESS || r->size > MAX_ADDRESS - r->gpa) {
        return bad(error, "ranges", i, "expected an end of at most 4503599627370496");
    }
    for (size_t k = 0; k < i; k++) {
        const PtaSharedRange *o = &layout->ranges[k];
        if (r->gpa < o->gpa + o->size) {
            return bad(error, "ranges", i, "expected a range behind those before it");
        }
        if (r->backing == o->backing && overlap(r->offset, r->size, o->offset, o->size)) {
            return bad(error, "ranges", i, "expected memory that is in no other range");
        }
    }
    return true;
}

static bool parse_range(PtaSharedLayout *layout, json_t *json, GError **error)
{
    size_t i = layout->n_ranges;
    json_int_t gpa, size, backing, offset;
    if (json_unpack(json, "{s:I,s:I,s:I,s:I !}", "gpa", &gpa, "size", &size, "backing", &backing,
                    "offset", &offset) < 0 ||
        gpa < 0 || size < 0 || offset < 0) {
        return bad(error, "ranges", i, "expected an object of gpa, size, backing and offset");
    }
    if (backing < 0 || (size_t)backing >= layout->n_backings) {
        return bad(error, "ranges", i, "expected the index of a backing");
    }
    layout->ranges[i] =
        (PtaSharedRange){ (uint64_t)gpa, (uint64_t)size, (unsigned)backing, (uint64_t)offset };
    layout->n_ranges++;
    return check_range(layout, i, error);
}

static bool parse(PtaSharedLayout *layout, json_t *json, GError **error)
{
    json_int_t version;
    json_t *backings, *ranges;
    if (json_unpack(json, "{s:I,s:o,s:o !}", "partita-memory", &version, "backings", &backings,
                    "ranges", &ranges) < 0 ||
        version != LAYOUT_VERSION) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: expected {\"partita-memory\": 1, \"backings\": …, "
                         "\"ranges\": …}");
    }
    size_t n_backings = json_array_size(backings), n_ranges = json_array_size(ranges);
    if (n_backings == 0 || n_backings > PTA_SHARE_BACKINGS || n_ranges == 0 ||
        n_ranges > PTA_SHARE_RANGES) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: expected 1 to %d backings and 1 to %d ranges",
                         PTA_SHARE_BACKINGS, PTA_SHARE_RANGES);
    }
    for (size_t i = 0; i < n_backings; i++) {
        if (!parse_backing(layout, json_array_get(backings, i), error)) {
            return false;
        }
    }
    for (size_t i = 0; i < n_ranges; i++) {
        if (!parse_range(layout, json_array_get(ranges, i), error)) {
            return false;
        }
    }
    return true;
}

bool pta_shared_layout_parse(PtaSharedLayout *layout, const char *text, size_t len, GError **error)
{
    *layout = (PtaSharedLayout){ 0 };
    json_t *json =
        len <= PTA_SHARE_TEXT ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    bool done =
        json ? parse(layout, json, error)
             : pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: expected JSON, of at most %d bytes", PTA_SHARE_TEXT);
    json_decref(json);
    return done;
}
