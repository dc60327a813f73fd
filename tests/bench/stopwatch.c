/*
 * Runs a program and says what it took. usage: stopwatch [-k | -l] PROGRAM [ARGUMENT…]
 *
 * It prints one line: microseconds from before the start of the process to its first byte on
 * standard output (-1: none came), to its end; its user and its system CPU time; its exit status.
 *   -k  kills the program at its first byte; the status is then 0
 *   -l  prints each line of the output as it comes, behind the CPU time (microseconds, user and
 *       system) that the program had used by then, in place of the line above
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t read_us(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0) {
        return -1;
    }
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t timeval_us(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "stopwatch: %s: %s\n", what, strerror(error));
    exit(2);
}

/* Starts argv with its standard output in a pipe; lends the pipe's other end. */
static pid_t start(char **argv, int *from)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        die("pipe", errno);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    pid_t pid;
    int error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    if (error) {
        die(argv[0], error);
    }
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *from = ends[0];
    return pid;
}

/* Prints complete lines of `text` behind the CPU time, keeps the rest; returns how much that is. */
static size_t print_lines(char *text, size_t len, int64_t cpu)
{
    char *line = text, *end;
    while ((end = memchr(line, '\n', len - (size_t)(line - text)))) {
        int width = (int)(end - line) - (end > line && end[-1] == '\r');
        printf("%lld %.*s\n", (long long)cpu, width, line);
        line = end + 1;
    }
    fflush(stdout);
    size_t rest = len - (size_t)(line - text);
    memmove(text, line, rest);
    return rest;
}

int main(int argc, char **argv)
{
    bool kill_first = argc > 1 && !strcmp(argv[1], "-k");
    bool lines = argc > 1 && !strcmp(argv[1], "-l");
    char **program = argv + 1 + (kill_first || lines);
    if (!*program) {
        fprintf(stderr, "usage: stopwatch [-k | -l] PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    int from;
    int64_t begin = read_us(CLOCK_MONOTONIC), first = -1;
    pid_t pid = start(program, &from);
    clockid_t cpu_clock;
    int error = clock_getcpuclockid(pid, &cpu_clock);
    if (error) {
        die("CPU clock", error);
    }
    char text[4096];
    size_t kept = 0;
    ssize_t got;
    while ((got = read(from, text + kept, sizeof(text) - kept)) > 0 ||
           (got < 0 && errno == EINTR)) {
        if (got < 0) {
            continue;
        }
        if (first < 0) {
            first = read_us(CLOCK_MONOTONIC) - begin;
            if (kill_first) {
                kill(pid, SIGKILL);
            }
        }
        kept = lines ? print_lines(text, kept + (size_t)got, read_us(cpu_clock)) : 0;
        if (kept == sizeof(text)) {
            kept = 0; /* no line is that long */
        }
    }
    int status;
    struct rusage usage;
    if (wait4(pid, &status, 0, &usage) < 0) {
        die("wait", errno);
    }
    int64_t wall = read_us(CLOCK_MONOTONIC) - begin;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (kill_first && first >= 0) {
        code = 0;
    }
    if (!lines) {
        printf("%lld %lld %lld %lld %d\n", (long long)first, (long long)wall,
               (long long)timeval_us(usage.ru_utime), (long long)timeval_us(usage.ru_stime), code);
    }
    return code;
}
