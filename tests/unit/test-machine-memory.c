/* From a description of memory to ranges and backings; and what is wrong with one. */
#include "config.h"

#include "src/machine/machine-memory.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>
#include <unistd.h>

static PtaMachineMemory *plan(const char *text, GError **error)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    g_autoptr(MemoryConfig) config = memory_config_from_json(json, "$.memory", error);
    json_decref(json);
    return config ? pta_machine_memory_plan(config, "/base", error) : NULL;
}

/* "memfd:4M,legacy private:…; 0+4M=0@0 …": backings, then parts. */
static char *text_of(const PtaMachineMemory *m)
{
    GString *s = g_string_new(NULL);
    for (size_t i = 0; i < m->n_backings; i++) {
        const PtaBackingParams *p = &m->backings[i].params;
        g_autofree char *size = pta_format_size(p->size);
        g_string_append_printf(s, "%s%s:%s", i ? " " : "", pta_backing_params_type(p), size);
        if (p->hugepage_size) {
            g_autofree char *page = pta_format_size(p->hugepage_size);
            g_string_append_printf(s, ",page=%s", page);
        }
        g_string_append(s, p->legacy ? ",legacy" : "");
        g_string_append(s, p->thp ? ",thp" : "");
        g_string_append(s, p->pin ? ",pin" : "");
        if (p->has_numa_node) {
            g_string_append_printf(s, ",node=%u", p->numa_node);
        }
        if (p->has_fd) {
            g_string_append_printf(s, ",fd=%d", p->fd);
        }
        if (p->path) {
            g_string_append_printf(s, ",path=%s", p->path);
        }
    }
    g_string_append_c(s, ';');
    for (size_t i = 0; i < m->n_parts; i++) {
        const PtaMachineRam *r = &m->parts[i];
        g_autofree char *gpa = pta_format_size(r->range.gpa);
        g_autofree char *size = pta_format_size(r->range.size);
        g_autofree char *offset = pta_format_size(r->offset);
        g_string_append_printf(s, " %s+%s=%zu@%s", gpa, size, r->backing, offset);
    }
    return g_string_free(s, FALSE);
}

/* Parts cover the ranges without a hole, and each backing without one, in order. */
static void assert_covers(const PtaMachineMemory *m)
{
    uint64_t used[PTA_MACHINE_BACKINGS] = { 0 };
    size_t range = 0;
    uint64_t at = m->ranges[0].gpa;
    for (size_t i = 0; i < m->n_parts; i++) {
        const PtaMachineRam *r = &m->parts[i];
        if (at == m->ranges[range].gpa + m->ranges[range].size) {
            at = m->ranges[++range].gpa;
        }
        assert_true(range < m->n_ranges);
        assert_int_equal(r->range.gpa, at);
        assert_int_equal(r->offset, used[r->backing]);
        at += r->range.size;
        used[r->backing] += r->range.size;
    }
    assert_int_equal(range + 1, m->n_ranges);
    assert_int_equal(at, m->ranges[range].gpa + m->ranges[range].size);
    for (size_t i = 0; i < m->n_backings; i++) {
        assert_int_equal(used[i], m->backings[i].params.size);
    }
}

static void plans(void **unused)
{
    static const struct {
        const char *memory, *expected;
    } good[] = {
        { "{'size':'256M'}", "memfd:256M,legacy; 0+256M=0@0" },
        { "{'size':'3G'}", "memfd:3G,legacy; 0+3G=0@0" },
        { "{'size':'5G','pin':true}", "memfd:5G,legacy,pin; 0+3G=0@0 4G+2G=0@3G" },
        { "{'size':'1M','backing':[{'type':'memfd','thp':true,'host-numa-node':3}]}",
          "memfd:1M,legacy,thp,node=3; 0+1M=0@0" },
        /* the rest may be anywhere */
        { "{'size':'64M','backing':[{'type':'memfd'},{'type':'private','size':'16M'}]}",
          "memfd:48M,legacy private:16M; 0+48M=0@0 48M+16M=1@0" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'4M'},{'type':'private','thp':true}]}",
          "memfd:4M,legacy private:60M,thp; 0+4M=0@0 4M+60M=1@0" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'4M'},{'type':'private','size':'60M'}]}",
          "memfd:4M,legacy private:60M; 0+4M=0@0 4M+60M=1@0" },
        /* across the gap, at it, and above it */
        { "{'size':'6G','backing':[{'type':'memfd','size':'2G'},{'type':'file','path':'x'}]}",
          "memfd:2G,legacy file:4G,path=/base/x; 0+2G=0@0 2G+1G=1@0 4G+3G=1@1G" },
        { "{'size':'4G','backing':[{'type':'fd','fd':3,'size':'3G'},{'type':'fd','fd':4}]}",
          "fd:3G,legacy,fd=3 fd:1G,fd=4; 0+3G=0@0 4G+1G=1@0" },
        { "{'size':'5G','backing':[{'type':'memfd','size':'4G'},{'type':'private'}]}",
          "memfd:4G,legacy private:1G; 0+3G=0@0 4G+1G=0@3G 5G+1G=1@0" },
        /* what cannot hold the first MiB leaves it to a memfd */
        { "{'size':'64M','backing':[{'type':'private'}]}",
          "memfd:2M,legacy private:62M; 0+2M=0@0 2M+62M=1@0" },
        { "{'size':'64M','backing':[{'type':'hugetlb','host-numa-node':1}]}",
          "memfd:2M,legacy,node=1 hugetlb:62M,page=2M,node=1; 0+2M=0@0 2M+62M=1@0" },
        { "{'size':'6G','pin':true,'backing':[{'type':'hugetlb','hugepage-size':'1G'}]}",
          "memfd:1G,legacy,thp,pin hugetlb:5G,page=1G,pin; 0+1G=0@0 1G+2G=1@0 4G+3G=1@2G" },
        /* as a later one it is all there */
        { "{'size':'64M','backing':[{'type':'memfd','size':'2M'},{'type':'hugetlb'}]}",
          "memfd:2M,legacy hugetlb:62M,page=2M; 0+2M=0@0 2M+62M=1@0" },
        { "{'size':'66M','backing':[{'type':'private','size':'62M'},{'type':'hugetlb'}]}",
          "memfd:2M,legacy private:60M hugetlb:4M,page=2M; 0+2M=0@0 2M+60M=1@0 62M+4M=2@0" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *memory = g_strdelimit(g_strdup(good[i].memory), "'", '"');
        g_autoptr(PtaMachineMemory) m = plan(memory, &error);
        if (error) {
            print_message("# %s: %s\n", memory, error->message);
        }
        assert_non_null(m);
        g_autofree char *text = text_of(m);
        assert_string_equal(text, good[i].expected);
        assert_covers(m);
    }
}

static void faults(void **unused)
{
    static const struct {
        const char *memory, *expected;
    } bad[] = {
        { "{'size':4097000}", "$.memory.size: expected a multiple of 4K, found 4097000" },
        { "{'size':'64M','backing':[{'type':'memfd'},{'type':'private'}]}",
          "$.memory.backing[1].size: expected a size, for $.memory.backing[0] has none" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'63M'}]}",
          "$.memory.backing: expected sizes that add up to 64M, found 63M" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'63M'},{'type':'private','size':'2M'}]}",
          "$.memory.backing: expected sizes that add up to 64M, found 65M" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'64M'},{'type':'private'}]}",
          "$.memory.backing: the others have 64M of 64M; expected something left for "
          "$.memory.backing[1]" },
        { "{'size':'64M','backing':[{'type':'memfd','size':5000},{'type':'private'}]}",
          "$.memory.backing[0].size: expected a multiple of 4K, found 5000" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'1020K'},{'type':'private'}]}",
          "$.memory.backing[0].size: expected at least 1M" },
        { "{'size':'2M','backing':[{'type':'private'}]}",
          "$.memory.backing[0].size: expected more than the 2M at address 0 that are in a memfd, "
          "found 2M" },
        { "{'size':'1G','backing':[{'type':'hugetlb','hugepage-size':'1G'}]}",
          "$.memory.backing[0].size: expected more than the 1G at address 0" },
        { "{'size':'64M','backing':[{'type':'hugetlb','hugepage-size':'64K'}]}",
          "$.memory.backing[0].hugepage-size: expected 2M or 1G, found 64K" },
        { "{'size':'64M','backing':[{'type':'memfd','size':'2M'},{'type':'hugetlb',"
          "'hugepage-size':'1G'}]}",
          "$.memory.backing[1].size: expected a multiple of the huge page size 1G, found 62M" },
        { "{'size':'65M','backing':[{'type':'memfd','size':'3M'},{'type':'hugetlb'}]}",
          "$.memory.backing[1]: expected a place that is a multiple of the huge page size 2M, found "
          "3M" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *memory = g_strdelimit(g_strdup(bad[i].memory), "'", '"');
        assert_null(plan(memory, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        if (!strstr(error->message, bad[i].expected)) {
            print_message("# %s\n", error->message);
        }
        assert_non_null(strstr(error->message, bad[i].expected));
    }
}

/* Random sizes and types: what is planned covers the ranges. */
static void whatever_is_planned_covers_the_ram(void **unused)
{
    static const char *const types[] = { "'memfd'",     "'private'",
                                         "'hugetlb'",   "'hugetlb','hugepage-size':'1G'",
                                         "'fd','fd':9", "'file','path':'y'" };
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    unsigned planned = 0;
    for (unsigned round = 0; round < 20000; round++) {
        static const uint64_t units[] = { 4 * PTA_KIB, PTA_MIB, 2 * PTA_MIB, PTA_GIB };
        unsigned n = (unsigned)g_rand_int_range(rand, 1, 17);
        unsigned rest = (unsigned)g_rand_int_range(rand, 0, 20);
        uint64_t total = 0;
        g_autoptr(GString) s = g_string_new(NULL);
        for (unsigned i = 0; i < n; i++) {
            uint64_t unit = units[g_rand_int_range(rand, (int)(round % 4), 4)];
            uint64_t size = unit * (uint64_t)g_rand_int_range(rand, 1, 5);
            const char *type = types[g_rand_int_range(rand, 0, G_N_ELEMENTS(types))];
            total += size;
            g_string_append_printf(s, "%s{'type':%s", i ? "," : "", type);
            if (i != rest) {
                g_string_append_printf(s, ",'size':%" G_GUINT64_FORMAT, size);
            }
            g_string_append_c(s, '}');
        }
        g_autofree char *memory =
            g_strdup_printf("{'size':%" G_GUINT64_FORMAT ",'backing':[%s]}", total, s->str);
        g_strdelimit(memory, "'", '"');
        g_autoptr(GError) error = NULL;
        g_autoptr(PtaMachineMemory) m = plan(memory, &error);
        if (!m) {
            assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
            continue;
        }
        planned++;
        assert_covers(m);
        for (size_t i = 0; i < m->n_parts; i++) {
            const PtaMachineRam *r = &m->parts[i];
            uint64_t page = m->backings[r->backing].params.hugepage_size;
            if (page) {
                assert_int_equal((r->range.gpa | r->range.size | r->offset) % page, 0);
            }
            bool low = r->range.gpa < PTA_MIB;
            assert_true(low == (i == 0));
            assert_int_equal(m->backings[r->backing].params.legacy, r->backing == 0);
        }
    }
    assert_true(planned > 2000);
}

/* Several backings are one memory; what is written through it is in them. */
static void memory_of_several_backings(void **unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaMachineMemory) m =
        plan("{\"size\":\"8M\",\"prefault\":true,\"backing\":[{\"type\":\"memfd\",\"size\":\"3M\"},"
             "{\"type\":\"private\",\"size\":\"1M\"},{\"type\":\"memfd\"}]}",
             &error);
    assert_non_null(m);
    assert_true(pta_machine_memory_check(m, &error));
    assert_true(pta_machine_memory_make(m, &error));
    g_autoptr(PtaMemory) mem = pta_machine_memory_build(m, &error);
    assert_non_null(mem);
    g_autofree uint8_t *in = g_malloc(8 * PTA_MIB), *out = g_malloc0(8 * PTA_MIB);
    for (size_t i = 0; i < 8 * PTA_MIB; i++) {
        in[i] = (uint8_t)(i * 31 >> 3);
    }
    pta_machine_memory_prefault(m, mem);
    uint64_t bytes = 0;
    assert_true(pta_backing_allocated(m->backings[2].backing, &bytes));
    assert_int_equal(bytes, 4 * PTA_MIB);
    assert_int_equal(pta_memory_write(mem, 0, in, 8 * PTA_MIB), PTA_MEM_OK);
    assert_int_equal(pta_memory_read(mem, 0, out, 8 * PTA_MIB), PTA_MEM_OK);
    assert_memory_equal(in, out, 8 * PTA_MIB);
    assert_int_equal(pread(pta_backing_fd(m->backings[2].backing), out, 4096, 8192), 4096);
    assert_memory_equal(out, in + 4 * PTA_MIB + 8192, 4096);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans),
        cmocka_unit_test(faults),
        cmocka_unit_test(whatever_is_planned_covers_the_ram),
        cmocka_unit_test(memory_of_several_backings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
