/*
 * Round trips of query-status: qmp SECONDS CLIENTS SOCKET... prints how many a second all clients
 * together had; they are spread over the sockets. Each client sends its next request when the reply
 * to its last one is there. One thread, plain poll(2); any QMP server will do.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 64

static const char request[] = "{\"execute\": \"query-status\"}\n";

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "qmp: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) {
        die("send");
    }
}

/* Reads up to the end of a line; returns how many lines ended. */
static unsigned read_lines(int fd)
{
    char buf[4096];
    ssize_t n = recv(fd, buf, sizeof(buf), 0);
    if (n <= 0) {
        die("recv");
    }
    unsigned lines = 0;
    for (ssize_t i = 0; i < n; i++) {
        lines += buf[i] == '\n';
    }
    return lines;
}

static int connect_client(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        die(path);
    }
    while (read_lines(fd) == 0) { /* the greeting */
    }
    send_all(fd, "{\"execute\": \"qmp_capabilities\"}\n");
    while (read_lines(fd) == 0) {}
    return fd;
}

int main(int argc, char **argv)
{
    double seconds = argc > 3 ? atof(argv[1]) : 0;
    unsigned n = argc > 3 ? (unsigned)atoi(argv[2]) : 0;
    if (n < 1 || n > MAX_CLIENTS || seconds <= 0) {
        fprintf(stderr, "usage: qmp SECONDS CLIENTS SOCKET...\n");
        return 2;
    }
    struct pollfd fds[MAX_CLIENTS];
    for (unsigned i = 0; i < n; i++) {
        const char *path = argv[3 + i % (unsigned)(argc - 3)];
        fds[i] = (struct pollfd){ .fd = connect_client(path), .events = POLLIN };
    }
    for (unsigned i = 0; i < n; i++) {
        send_all(fds[i].fd, request);
    }
    unsigned long trips = 0;
    double start = now();
    double end = start + seconds;
    double t;
    while (t = now(), t < end) {
        if (n > 1 && poll(fds, n, 1000) <= 0) { /* a single one may as well wait in recv() */
            die("poll");
        }
        for (unsigned i = 0; i < n; i++) {
            if (n > 1 && !(fds[i].revents & POLLIN)) {
                continue;
            }
            if (read_lines(fds[i].fd) > 0) {
                trips++;
                send_all(fds[i].fd, request);
            }
        }
    }
    printf("%.0f\n", (double)trips / (t - start));
    return 0;
}
