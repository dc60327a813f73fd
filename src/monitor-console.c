/*
 * The interactive monitor. On a terminal libedit edits the line; its reader of characters is ours and
 * waits for the terminal and the socket, so that an event is shown the moment it comes: above the
 * line that is being typed, which is drawn again below it. MAIN.
 */
#include "config.h"

#include "src/monitor-console.h"

#include "qmp/gen/introspect.h"
#include "qmp/pretty.h"
#include "src/util/i18n.h"
#include "src/util/lazy-lib.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_SIZE 500
#define KILL_LINE    L'\025' /* Ctrl-U, as libedit's emacs mode binds it */

static PTA_LAZY_FUNCTION(el_init);
static PTA_LAZY_FUNCTION(el_end);
static PTA_LAZY_FUNCTION(el_set);
static PTA_LAZY_FUNCTION(el_get);
static PTA_LAZY_FUNCTION(el_line);
static PTA_LAZY_FUNCTION(el_insertstr);
static PTA_LAZY_FUNCTION(el_resize);
static PTA_LAZY_FUNCTION(el_source);
static PTA_LAZY_FUNCTION(el_gets);
static PTA_LAZY_FUNCTION(history_init);
static PTA_LAZY_FUNCTION(history_end);
static PTA_LAZY_FUNCTION(history);
static PtaLazyLib libedit = { "libedit.so.2",
                              (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(el_init) },
                                                       { PTA_LAZY_SYMBOL(el_end) },
                                                       { PTA_LAZY_SYMBOL(el_set) },
                                                       { PTA_LAZY_SYMBOL(el_get) },
                                                       { PTA_LAZY_SYMBOL(el_line) },
                                                       { PTA_LAZY_SYMBOL(el_insertstr) },
                                                       { PTA_LAZY_SYMBOL(el_resize) },
                                                       { PTA_LAZY_SYMBOL(el_source) },
                                                       { PTA_LAZY_SYMBOL(el_gets) },
                                                       { PTA_LAZY_SYMBOL(history_init) },
                                                       { PTA_LAZY_SYMBOL(history_end) },
                                                       { PTA_LAZY_SYMBOL(history) },
                                                       { NULL, NULL } } };

struct PtaConsole {
    bool json;
    PtaClient *client;             /* lent while it runs */
    const PtaClientSchema *schema; /* may be NULL */
    EditLine *el;                  /* NULL if input is no terminal */
    History *history;
    char *history_file;
    bool editing; /* a line is on the screen */
    bool gone;    /* the connection */
    int signals;  /* signalfd: while a line is edited, signals are read like keys */
    sigset_t mask;
    mbstate_t in_state;
};

PtaConsole *pta_console_new(bool json)
{
    PtaConsole *c = g_new0(PtaConsole, 1);
    c->json = json;
    c->signals = -1;
    return c;
}

void pta_console_free(PtaConsole *c)
{
    if (!c) {
        return;
    }
    if (c->history) {
        HistEvent ev;
        if (c->history_file) {
            dl_history(c->history, &ev, H_SAVE, c->history_file);
        }
        dl_history_end(c->history);
    }
    if (c->el) {
        dl_el_end(c->el);
    }
    pta_close(c->signals);
    g_free(c->history_file);
    g_free(c);
}

/* ---- output ---- */

static void print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    puts(text);
    free(text);
}

static void print_result(const json_t *value, bool json)
{
    if (json) {
        print_json(value);
    } else {
        g_autofree char *text = pta_pretty(value, false);
        fputs(text, stdout);
    }
    fflush(stdout);
}

/* Clears the line that is being edited, so that something can be printed in its place. */
static void leave_line(PtaConsole *c)
{
    if (c->editing) {
        fputs("\r\033[K", stdout);
    }
}

static void return_to_line(PtaConsole *c)
{
    fflush(stdout);
    if (c->editing) {
        dl_el_set(c->el, EL_REFRESH);
    }
}

void pta_console_event(void *opaque, const json_t *event)
{
    PtaConsole *c = opaque;
    leave_line(c);
    if (c->json) {
        print_json(event);
    } else {
        g_autofree char *text = pta_pretty_event(event);
        puts(text);
    }
    return_to_line(c);
}

/* ---- commands ---- */

static int report(const GError *error)
{
    fprintf(stderr, "partita: %s\n", error->message);
    return g_error_matches(error, PTA_CLIENT_ERROR, PTA_CLIENT_ERROR_GONE) ? 2 : 1;
}

int pta_console_execute(PtaClient *client, const PtaClientSchema *schema, bool json,
                        const char *const *words)
{
    g_autoptr(GError) error = NULL;
    json_t *args = pta_client_schema_parse(schema, words[0], words + 1, &error);
    if (!args) {
        return report(error);
    }
    if (json_object_size(args) == 0) {
        json_decref(args);
        args = NULL;
    }
    json_t *result = pta_client_call(client, words[0], args, &error);
    if (!result) {
        return report(error);
    }
    print_result(result, json);
    json_decref(result);
    return 0;
}

/* A line that begins with a brace is a request as it stands. */
static int execute_request(PtaConsole *c, const char *line)
{
    json_error_t where;
    json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, &where);
    if (!request) {
        fprintf(stderr, "partita: %s\n", where.text);
        return 1;
    }
    g_autoptr(GError) error = NULL;
    json_t *reply = pta_client_request(c->client, request, &error);
    json_decref(request);
    if (!reply) {
        return report(error);
    }
    int status = json_object_get(reply, "return") ? 0 : 1;
    print_json(reply);
    json_decref(reply);
    return status;
}

/* Names in as many columns as the terminal has. */
static void print_columns(char **names)
{
    size_t widest = 0;
    for (char **name = names; *name; name++) {
        widest = MAX(widest, strlen(*name));
    }
    struct winsize ws = { 0 };
    size_t width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : 80;
    size_t n = g_strv_length(names);
    size_t columns = MAX(1, width / (widest + 2));
    size_t rows = (n + columns - 1) / columns;
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < n; i += rows) {
            printf("%-*s", i + rows < n ? (int)widest + 2 : 0, names[i]);
        }
        putchar('\n');
    }
}

static const PtaQmpInfo *find_info(const char *command)
{
    for (const PtaQmpInfo *info = pta_qmp_command_info; info->name; info++) {
        if (strcmp(info->name, command) == 0) {
            return info;
        }
    }
    return NULL;
}

static void help_command(const PtaConsole *c, const char *command)
{
    g_auto(GStrv) usage = pta_client_schema_usage(c->schema, command);
    g_autofree char *args = g_strjoinv(" ", usage);
    printf("%s %s\n", command, args);
    const PtaQmpInfo *info = find_info(command);
    if (!info) {
        return; /* a command of another server */
    }
    printf("  %s\n", info->doc);
    for (size_t i = 0; info->type && i < info->type->n_members; i++) {
        printf("  %s: %s\n", info->type->members[i].name, info->type->members[i].doc);
    }
}

static int help(const PtaConsole *c, const char *command)
{
    if (!c->schema) {
        fprintf(stderr, _("partita: the server does not describe its commands\n"));
        return 1;
    }
    if (command && pta_client_schema_has(c->schema, command)) {
        help_command(c, command);
        return 0;
    }
    if (command) {
        fprintf(stderr, _("partita: there is no command %s\n"), command);
        return 1;
    }
    g_auto(GStrv) names = pta_client_schema_commands(c->schema);
    print_columns(names);
    printf(
        _("\nCOMMAND key=value… runs one; `help COMMAND` says what it takes; Tab completes.\n"
          "A line of JSON is sent as it is. Ctrl-D or `exit` leaves; `quit` ends the machine.\n"));
    return 0;
}

/* Returns the status, or -1 to leave. */
static int run_line(PtaConsole *c, const char *line)
{
    g_autofree char *text = g_strstrip(g_strdup(line));
    if (*text == '\0' || *text == '#') {
        return 0;
    }
    if (*text == '{') {
        return execute_request(c, text);
    }
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;
    if (!g_shell_parse_argv(text, NULL, &words, &error)) {
        return report(error);
    }
    if (strcmp(words[0], "exit") == 0) {
        return -1;
    }
    if (strcmp(words[0], "help") == 0) {
        return help(c, words[1]);
    }
    return pta_console_execute(c->client, c->schema, c->json, (const char *const *)words);
}

/* ---- completion ---- */

/* Names below the object of the tree that `path` is in, each with its whole path. */
static void complete_path(PtaConsole *c, const char *path, const char *before, GPtrArray *found)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *dir = slash ? g_strndup(path, (size_t)(slash - path) + 1) : g_strdup("/");
    json_t *list = pta_client_call(c->client, "qom-list", json_pack("{s:s}", "path", dir), NULL);
    size_t i;
    json_t *property;
    json_array_foreach(list, i, property)
    {
        const char *name = json_string_value(json_object_get(property, "name"));
        const char *type = json_string_value(json_object_get(property, "type"));
        if (name && type) {
            g_ptr_array_add(found, g_strdup_printf("%s%s%s%s", before, dir, name,
                                                   g_str_has_prefix(type, "child<") ? "/" : ""));
        }
    }
    json_decref(list);
}

static void add_all(GPtrArray *found, const char *before, char **names)
{
    for (char **name = names; *name; name++) {
        g_ptr_array_add(found, g_strconcat(before, *name, NULL));
    }
}

/* All that may stand in place of word, which is the n-th of the line (from 0). */
static GPtrArray *candidates(PtaConsole *c, const char *command, unsigned n, const char *word)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    if (!c->schema) {
        return found;
    }
    if (n == 0 || (n == 1 && strcmp(command, "help") == 0)) {
        g_auto(GStrv) names = pta_client_schema_commands(c->schema);
        add_all(found, "", names);
        if (n == 0) {
            static const char *const own[] = { "exit", "help", NULL };
            add_all(found, "", (char **)(uintptr_t)own);
        }
        return found;
    }
    const char *equals = strchr(word, '=');
    if (!equals) {
        g_auto(GStrv) keys = pta_client_schema_keys(c->schema, command, word);
        add_all(found, "", keys);
        return found;
    }
    g_autofree char *key = g_strndup(word, (size_t)(equals - word));
    /* In a list, the last element is what is typed. */
    const char *comma = strrchr(equals, ',');
    g_autofree char *before = g_strndup(word, (size_t)((comma ?: equals) + 1 - word));
    g_auto(GStrv) values = pta_client_schema_values(c->schema, command, key);
    add_all(found, before, values);
    if (found->len == 0 && strcmp(key, "path") == 0 &&
        pta_client_schema_has(c->schema, "qom-list")) {
        complete_path(c, equals + 1, before, found);
    }
    return found;
}

static void keep_prefix(GPtrArray *found, const char *prefix)
{
    for (guint i = found->len; i-- > 0;) {
        if (!g_str_has_prefix(found->pdata[i], prefix)) {
            g_ptr_array_remove_index(found, i);
        }
    }
}

/* How many bytes all have in common. */
static size_t common_length(const GPtrArray *found)
{
    const char *first = found->pdata[0];
    size_t n = strlen(first);
    for (guint i = 1; i < found->len; i++) {
        const char *other = found->pdata[i];
        size_t m = 0;
        while (m < n && first[m] == other[m]) {
            m++;
        }
        n = m;
    }
    return n;
}

static unsigned char on_tab(EditLine *el, int key)
{
    PtaConsole *c;
    dl_el_get(el, EL_CLIENTDATA, &c);
    const LineInfo *line = dl_el_line(el);
    g_autofree char *text = g_strndup(line->buffer, (size_t)(line->cursor - line->buffer));
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    unsigned n = 0; /* words before the last one; more than one space counts as one */
    const char *command = "";
    for (char **w = words; *w && w[1]; w++) {
        if (**w) {
            command = n++ == 0 ? *w : command;
        }
    }
    const char *word = *words ? words[g_strv_length(words) - 1] : "";
    g_autoptr(GPtrArray) found = candidates(c, command, n, word);
    keep_prefix(found, word);
    if (found->len == 0) {
        return CC_ERROR;
    }
    g_autofree char *common = g_strndup(found->pdata[0], common_length(found));
    const char *rest = common + strlen(word);
    if (found->len == 1 && !strchr("=./", common[strlen(common) - 1])) {
        g_autofree char *full = g_strconcat(rest, " ", NULL);
        return dl_el_insertstr(el, full) == 0 ? CC_REFRESH : CC_ERROR;
    }
    if (*rest) {
        return dl_el_insertstr(el, rest) == 0 ? CC_REFRESH : CC_ERROR;
    }
    g_ptr_array_add(found, NULL);
    putchar('\n');
    print_columns((char **)found->pdata);
    fflush(stdout);
    return CC_REDISPLAY;
}

/* ---- the line editor ---- */

static char *prompt(EditLine *el)
{
    static char text[] = "(partita) ";
    return text;
}

/* A signal came while a line is edited: 1 with a character for it, 0 to leave, -1 for nothing. */
static int read_signal(PtaConsole *c, wchar_t *wc)
{
    struct signalfd_siginfo info;
    if (read(c->signals, &info, sizeof(info)) != sizeof(info)) {
        return -1;
    }
    if (info.ssi_signo == SIGWINCH) {
        dl_el_resize(c->el);
        return -1;
    }
    *wc = KILL_LINE;
    return info.ssi_signo == SIGINT ? 1 : 0;
}

/* False if the connection is gone. */
static bool read_events(PtaConsole *c)
{
    g_autoptr(GError) error = NULL;
    if (pta_client_receive(c->client, &error)) {
        return true;
    }
    leave_line(c);
    report(error);
    c->gone = true;
    return false;
}

/* One byte of the terminal: 1 with a character, 0 at the end of input, -1 if there is more to it. */
static int read_byte(PtaConsole *c, wchar_t *wc)
{
    char byte;
    if (read(STDIN_FILENO, &byte, 1) <= 0) {
        return 0;
    }
    /* A Ctrl-D that was typed while a command ran, with the terminal in its own mode: Linux keeps such
     * an end of file as a NUL (n_tty.c, __DISABLED_CHAR). */
    if (byte == '\0') {
        byte = 'D' & 0x1f;
    }
    size_t len = mbrtowc(wc, &byte, 1, &c->in_state);
    if (len == (size_t)-1) { /* not in the locale's encoding: dropped */
        memset(&c->in_state, 0, sizeof(c->in_state));
    }
    return len == (size_t)-1 || len == (size_t)-2 ? -1 : 1;
}

/* libedit's reader: one character, having waited for it and shown what came meanwhile. */
static int read_char(EditLine *el, wchar_t *wc)
{
    PtaConsole *c;
    dl_el_get(el, EL_CLIENTDATA, &c);
    for (;;) {
        struct pollfd fds[] = {
            { .fd = STDIN_FILENO, .events = POLLIN },
            { .fd = pta_client_fd(c->client), .events = POLLIN },
            { .fd = c->signals, .events = POLLIN },
        };
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
            if (errno != EINTR) {
                return -1;
            }
            continue;
        }
        if (fds[1].revents && !read_events(c)) {
            return 0;
        }
        int got = fds[2].revents ? read_signal(c, wc) : fds[0].revents ? read_byte(c, wc) : -1;
        if (got >= 0) {
            return got;
        }
    }
}

static void load_history(PtaConsole *c)
{
    HistEvent ev;
    c->history = dl_history_init();
    dl_history(c->history, &ev, H_SETSIZE, HISTORY_SIZE);
    dl_history(c->history, &ev, H_SETUNIQUE, 1);
    g_autofree char *dir = g_build_filename(g_get_user_state_dir(), "partita", NULL);
    if (g_mkdir_with_parents(dir, 0700) == 0) {
        c->history_file = g_build_filename(dir, "monitor-history", NULL);
        dl_history(c->history, &ev, H_LOAD, c->history_file);
    }
}

static void start_editor(PtaConsole *c)
{
    c->el = dl_el_init("partita", stdin, stdout, stderr);
    load_history(c);
    dl_el_set(c->el, EL_CLIENTDATA, c);
    dl_el_set(c->el, EL_PROMPT, prompt);
    dl_el_set(c->el, EL_EDITOR, "emacs");
    dl_el_set(c->el, EL_SIGNAL, 0);
    dl_el_set(c->el, EL_HIST, dl_history, c->history);
    dl_el_set(c->el, EL_ADDFN, "partita-complete", "Complete the word", on_tab);
    dl_el_set(c->el, EL_BIND, "\t", "partita-complete", NULL);
    dl_el_set(c->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    dl_el_set(c->el, EL_BIND, "^U", "em-kill-line", NULL);
    dl_el_source(c->el, NULL); /* ~/.editrc, as other users of libedit do */
    dl_el_set(c->el, EL_GETCFN, read_char);
    sigemptyset(&c->mask);
    sigaddset(&c->mask, SIGINT);
    sigaddset(&c->mask, SIGTERM);
    sigaddset(&c->mask, SIGHUP);
    sigaddset(&c->mask, SIGWINCH);
    c->signals = signalfd(-1, &c->mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void greet(const PtaConsole *c)
{
    const json_t *version = json_object_get(pta_client_greeting(c->client), "version");
    const char *package = json_string_value(json_object_get(version, "package"));
    printf(_("Connected to %s. Tab completes, `help` helps, Ctrl-D leaves.\n"), package ?: "?");
}

static int edit_lines(PtaConsole *c)
{
    start_editor(c);
    greet(c);
    int status = 0;
    while (status >= 0 && !c->gone) {
        int count;
        /* While a command runs the terminal is as it was, and signals do what they always do. */
        sigprocmask(SIG_BLOCK, &c->mask, NULL);
        c->editing = true;
        const char *line = dl_el_gets(c->el, &count);
        c->editing = false;
        sigprocmask(SIG_UNBLOCK, &c->mask, NULL);
        if (!line || count <= 0) {
            putchar('\n');
            break;
        }
        HistEvent ev;
        if (*line != '\n') {
            dl_history(c->history, &ev, H_ENTER, line);
        }
        status = run_line(c, line);
        c->gone |= status == 2;
    }
    return c->gone ? 2 : 0;
}

/* Lines from a pipe or file: nothing is shown but results. */
static int read_lines(PtaConsole *c)
{
    int first = 0;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        int status = run_line(c, line);
        if (status < 0 || status == 2) {
            first = MAX(status, first);
            break;
        }
        first = first ?: status;
    }
    free(line);
    return first;
}

int pta_console_run(PtaConsole *c, PtaClient *client, const PtaClientSchema *schema)
{
    c->client = client;
    c->schema = schema;
    g_autoptr(GError) error = NULL;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return read_lines(c);
    }
    if (!pta_lazy_lib_load(&libedit, &error)) {
        fprintf(stderr, _("partita: lines cannot be edited: %s\n"), error->message);
        return read_lines(c);
    }
    return edit_lines(c);
}
