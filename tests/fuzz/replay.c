/*
 * main() for a fuzz target that is built without libFuzzer: feeds it files, once each, and says so in
 * TAP. The arguments are files or folders; without any, it is the corpus of the program's name:
 * fuzz-x reads $srcdir/tests/fuzz/corpus/x. A target that fails does not come back, which the TAP
 * driver reports.
 */
#include "config.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void collect(GPtrArray *files, const char *path)
{
    if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
        g_ptr_array_add(files, g_strdup(path));
        return;
    }
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);
        collect(files, inner);
    }
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A copy of exactly its size, so that AddressSanitizer sees a read beyond it. */
static bool feed(const char *path)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!g_file_get_contents(path, &text, &len, NULL)) {
        return false;
    }
    uint8_t *exact = g_malloc(len ? len : 1);
    memcpy(exact, text, len);
    LLVMFuzzerTestOneInput(exact, len);
    g_free(exact);
    return true;
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    for (int i = 1; i < argc; i++) {
        collect(files, argv[i]);
    }
    g_autofree char *program = g_path_get_basename(argv[0]);
    const char *name = g_str_has_prefix(program, "fuzz-") ? program + strlen("fuzz-") : program;
    if (argc == 1) {
        const char *srcdir = g_getenv("srcdir");
        g_autofree char *corpus =
            g_build_filename(srcdir ? srcdir : ".", "tests", "fuzz", "corpus", name, NULL);
        collect(files, corpus);
    }
    g_ptr_array_sort(files, by_name);
    if (files->len == 0) {
        printf("Bail out! no files to feed to %s\n", name);
        return EXIT_FAILURE;
    }
    printf("1..%u\n", files->len);
    for (guint i = 0; i < files->len; i++) {
        const char *path = files->pdata[i];
        g_autofree char *base = g_path_get_basename(path);
        bool ok = feed(path);
        printf("%s %u - %s\n", ok ? "ok" : "not ok", i + 1, base);
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
