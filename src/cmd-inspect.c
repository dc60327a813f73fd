/* `partita inspect`: the tree of a machine, once or again and again. MAIN. */
#include "config.h"

#include "qmp/client.h"
#include "qmp/pretty.h"
#include "qmp/rates.h"
#include "src/cmd-client.h"
#include "src/commands.h"
#include "src/util/i18n.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WATCH_MIN 0.01
#define WATCH_MAX 86400.0
#define NO_WATCH  (-HUGE_VAL) /* the option was not given */
#define NO_DEPTH  INT_MIN

typedef struct Options {
    const char *path;
    char *value; /* NULL: nothing is set */
    int depth;   /* NO_DEPTH: all */
    double watch;
    bool watches;
    bool json;
} Options;

static char *to_text(const Options *o, const json_t *tree)
{
    if (!o->json) {
        return pta_pretty(tree, true);
    }
    /* Again and again: a line each, for who reads them one by one. */
    char *dump = json_dumps(tree, JSON_ENCODE_ANY | (o->watches ? JSON_COMPACT : JSON_INDENT(2)));
    char *text = g_strconcat(dump, "\n", NULL);
    free(dump);
    return text;
}

/* Over what stood there before: as many lines as there is room for, each cut at the edge. */
static void redraw(const char *text)
{
    struct winsize size;
    unsigned rows =
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row : 24;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    fputs("\x1b[H\x1b[?7l", stdout);
    for (unsigned i = 0; lines[i] && (*lines[i] || lines[i + 1]) && i + 1 < rows; i++) {
        printf("%s\x1b[K\n", lines[i]);
    }
    fputs("\x1b[?7h\x1b[J", stdout);
}

static bool show(const Options *o, const json_t *tree, bool first)
{
    g_autofree char *text = to_text(o, tree);
    if (o->watches && !o->json && isatty(STDOUT_FILENO)) {
        fputs(first ? "\x1b[2J" : "", stdout);
        redraw(text);
    } else {
        printf("%s%s", first || o->json ? "" : "\n", text);
    }
    return fflush(stdout) == 0;
}

/* NULL if the words are not UTF-8. */
static json_t *arguments(const Options *o)
{
    json_t *args = json_pack("{s:s, s:s*}", "path", o->path, "value", o->value);
    if (args && o->depth != NO_DEPTH) {
        json_object_set_new(args, "depth", json_integer(o->depth));
    }
    if (args && o->watches) {
        json_object_set_new(args, "counters", json_true());
    }
    return args;
}

/* Sleeps until the next round is due; rounds that were missed are left out. */
static void wait_for(uint64_t *due_ns, uint64_t period_ns)
{
    uint64_t now = pta_now_ns();
    *due_ns += period_ns;
    if (*due_ns > now) {
        g_usleep((*due_ns - now) / 1000);
    } else {
        *due_ns = now;
    }
}

static int inspect(PtaClient *client, const Options *o)
{
    g_autoptr(GError) error = NULL;
    json_t *last = NULL;
    uint64_t last_ns = 0;
    uint64_t due_ns = pta_now_ns();
    bool good = true;
    do {
        if (last) {
            wait_for(&due_ns, (uint64_t)(o->watch * 1e9));
        }
        uint64_t now_ns = pta_now_ns();
        json_t *tree = pta_client_call(client, "inspect", arguments(o), &error);
        if (!tree) {
            json_decref(last);
            return pta_client_report(error);
        }
        if (last) {
            pta_rates_add(tree, last, (double)(now_ns - last_ns) / 1e9);
        }
        good = show(o, tree, !last);
        json_decref(last);
        last = tree;
        last_ns = now_ns;
    } while (o->watches && good);
    json_decref(last);
    return PTA_CLIENT_STATUS_OK;
}

/* What is wrong with the words has been said if it is false. */
static bool check(const Options *o, char **words)
{
    if (words[1] && words[2]) {
        fprintf(stderr, _("partita inspect: expected one path, found %s as well\n"), words[2]);
        return false;
    }
    if (o->depth < 0 && o->depth != NO_DEPTH) {
        fprintf(stderr, _("partita inspect: --depth: expected a number from 0\n"));
        return false;
    }
    if (o->watches && !(o->watch >= WATCH_MIN && o->watch <= WATCH_MAX)) {
        fprintf(stderr, _("partita inspect: --watch: expected seconds from 0.01 to 86400\n"));
        return false;
    }
    if (o->watches && o->value) {
        fprintf(stderr, _("partita inspect: expected --watch or --set, found both\n"));
        return false;
    }
    json_t *args = arguments(o);
    if (!args) {
        fprintf(stderr, _("partita inspect: the path or value is not UTF-8\n"));
        return false;
    }
    json_decref(args);
    return true;
}

int pta_cmd_inspect(int argc, char **argv)
{
    gboolean json = FALSE;
    double watch = NO_WATCH;
    int depth = NO_DEPTH;
    g_autofree char *value = NULL;
    const GOptionEntry entries[] = {
        { "depth", 'd', 0, G_OPTION_ARG_INT, &depth,
          _("open at most N levels of directories; all if not given"), "N" },
        { "watch", 'w', 0, G_OPTION_ARG_DOUBLE, &watch,
          _("print it every SECONDS, counters with their growth a second"), _("SECONDS") },
        { "set", 's', 0, G_OPTION_ARG_STRING, &value, _("set the field to VALUE"), _("VALUE") },
        { "json", 'j', 0, G_OPTION_ARG_NONE, &json, _("print JSON"), NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_auto(GStrv) words = NULL;
    int status;
    if (!pta_client_options(argv, _("SOCKET [PATH]"),
                            _("Prints the live device tree of a machine."), NULL, entries, &words,
                            &status)) {
        return status;
    }
    Options o = {
        .path = words[1] && *words[1] ? words[1] : "/",
        .value = value,
        .depth = depth,
        .watch = watch,
        .watches = watch != NO_WATCH,
        .json = json,
    };
    if (!check(&o, words)) {
        return PTA_CLIENT_STATUS_FAILED;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaClient) client = pta_client_connect(words[0], NULL, NULL, &error);
    if (!client) {
        pta_client_report(error);
        return PTA_CLIENT_STATUS_FAILED;
    }
    return inspect(client, &o);
}
