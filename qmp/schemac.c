/* The schema compiler: schema/ to C, manual pages and the interface's lock list. One thread. */
#include "config.h"

#include "qmp/gen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Output {
    const char *name;
    char *(*make)(const Schema *schema);
} Output;

static const Output outputs[] = {
    { "types.h", gen_types_h },           { "types.c", gen_types_c },
    { "commands.h", gen_commands_h },     { "commands.c", gen_commands_c },
    { "events.h", gen_events_h },         { "events.c", gen_events_c },
    { "introspect.h", gen_introspect_h }, { "introspect.c", gen_introspect_c },
    { "partita-qmp.7", gen_man_qmp },
};

/* A file that would not change keeps its time, so that nothing is compiled again for it. */
static bool write_changed(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *old = NULL;
    if (g_file_get_contents(path, &old, NULL, NULL) && strcmp(old, text) == 0) {
        return true;
    }
    g_autoptr(GError) err = NULL;
    return g_file_set_contents(path, text, -1, &err) ||
           pta_throw(error, PTA_ERROR_HOST, "%s", err->message);
}

static bool write_all(const Schema *schema, const char *dir, GError **error)
{
    if (g_mkdir_with_parents(dir, 0777) < 0) {
        return pta_throw_errno(error, errno, "cannot make %s", dir);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(outputs); i++) {
        g_autofree char *text = outputs[i].make(schema);
        if (!write_changed(dir, outputs[i].name, text, error)) {
            return false;
        }
    }
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->manual) {
            g_autofree char *name = g_strconcat(e->manual, ".5", NULL);
            g_autofree char *text = gen_man_struct(schema, e);
            if (!write_changed(dir, name, text, error)) {
                return false;
            }
        }
    }
    return true;
}

typedef struct Options {
    char *in_dir;
    char *out_dir;
    char *include;
    char *date;
    gboolean lock;
    gboolean check;
    char **files;
} Options;

static void options_clear(Options *o)
{
    g_free(o->in_dir);
    g_free(o->out_dir);
    g_free(o->include);
    g_free(o->date);
    g_strfreev(o->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static bool run(const Options *o, GError **error)
{
    g_autoptr(Schema) schema =
        schema_load(o->in_dir, (const char *const *)o->files, g_strv_length(o->files), error);
    if (!schema) {
        return false;
    }
    schema->date = o->date ? o->date : "";
    if (o->include) {
        schema->include = o->include;
    }
    if (o->lock) {
        g_autofree char *text = gen_lock(schema);
        if (fputs(text, stdout) == EOF || fflush(stdout) == EOF) {
            return pta_throw_errno(error, errno, "standard output");
        }
    }
    return !o->out_dir || write_all(schema, o->out_dir, error);
}

int main(int argc, char **argv)
{
    g_auto(Options) o = { 0 };
    const GOptionEntry entries[] = {
        { "directory", 'C', 0, G_OPTION_ARG_FILENAME, &o.in_dir, "Read the files below DIR",
          "DIR" },
        { "output", 'o', 0, G_OPTION_ARG_FILENAME, &o.out_dir, "Write C and manual pages into DIR",
          "DIR" },
        { "include", 0, 0, G_OPTION_ARG_STRING, &o.include,
          "What generated files include one another by (qmp/gen)", "DIR" },
        { "date", 0, 0, G_OPTION_ARG_STRING, &o.date, "Date of the manual pages", "TEXT" },
        { "lock", 0, 0, G_OPTION_ARG_NONE, &o.lock,
          "Print the interface, one line for each thing that clients may rely on", NULL },
        { "check", 0, 0, G_OPTION_ARG_NONE, &o.check, "Only check the files", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.files, NULL, "FILE.json…" },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_summary(context, "Compiles schema files; together they make one schema.");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) error = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "schemac: %s (see schemac --help)\n", error->message);
        return 2;
    }
    if (!o.files || !(o.out_dir || o.lock || o.check) || (o.out_dir && !o.date)) {
        fprintf(stderr, "schemac: give files, and --lock, --check, or -o DIR with --date "
                        "(see schemac --help)\n");
        return 2;
    }
    if (!run(&o, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
