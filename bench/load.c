/* A client that keeps connections busy and says how long the longest wait was.
 *
 *   load ADDRESS CONNECTIONS DEPTH IDLE FRAMING REQUEST
 *
 * ADDRESS is HOST:PORT (numbers) or the path of a unix socket. Each of CONNECTIONS always has DEPTH requests under way; IDLE more
 * connections are only held. FRAMING says where a reply ends: "line" or "http" (Content-Length). REQUEST is sent as it is, with
 * \n and \r understood. A connection that the server closes is opened again and what it owed is asked again: the wait goes on.
 *
 * A line on standard input is answered with: replies, longest wait in microseconds, requests that a closed connection failed,
 * microseconds of CPU time used - all since the line before. End of input ends the client.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 65536 };

struct connection {
    int fd;
    int owed;             /* requests sent and not answered */
    int unsent;           /* bytes of requests that the kernel did not take yet */
    int oldest;           /* index of the oldest request in `sent` */
    int closing;          /* the server said that it closes after this reply */
    int filled;           /* bytes of a reply that is not complete */
    double retry_at;      /* when to connect again; 0 for connected */
    double *sent;         /* when each request was sent first */
    char *buffer;
};

static struct sockaddr_storage address;
static socklen_t address_length;
static int depth, http, poller;
static char *request;
static int request_length;
static long replies, failures;
static double longest;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void parse_address(const char *text) {
    const char *colon = strrchr(text, ':');
    if (text[0] == '/' || colon == NULL) {
        struct sockaddr_un *unix_address = (struct sockaddr_un *)&address;
        unix_address->sun_family = AF_UNIX;
        snprintf(unix_address->sun_path, sizeof unix_address->sun_path, "%s", text);
        address_length = sizeof *unix_address;
    } else {
        struct sockaddr_in *tcp = (struct sockaddr_in *)&address;
        char host[64] = "";
        snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
        tcp->sin_family = AF_INET;
        tcp->sin_port = htons(atoi(colon + 1));
        if (inet_pton(AF_INET, host, &tcp->sin_addr) != 1) { fprintf(stderr, "not an address: %s\n", text); exit(2); }
        address_length = sizeof *tcp;
    }
}

static int open_socket(void) {
    int one = 1, fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, (struct sockaddr *)&address, address_length) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    if (address.ss_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void want(struct connection *c, int operation, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) fail("epoll_ctl");
}

static void transmit(struct connection *c) {
    char text[16384];
    while (c->unsent > 0) {
        int start = (request_length - c->unsent % request_length) % request_length, length = 0;
        while (length < c->unsent && length < (int)sizeof text) {
            int piece = request_length - start;
            if (piece > (int)sizeof text - length) piece = sizeof text - length;
            memcpy(text + length, request + start, piece);
            length += piece;
            start = 0;
        }
        if (length > c->unsent) length = c->unsent;
        ssize_t sent = send(c->fd, text, length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) want(c, EPOLL_CTL_MOD, 1);
            return; /* what else it may be is seen when reading */
        }
        c->unsent -= sent;
    }
}

static void ask(struct connection *c, int count) {
    double at = now();
    for (int i = 0; i < count; i++) c->sent[(c->oldest + c->owed++) % depth] = at;
    c->unsent += count * request_length;
    transmit(c);
}

static void connect_again(struct connection *c) {
    if ((c->fd = open_socket()) < 0) {
        c->retry_at = now() + 1000;
        return;
    }
    c->retry_at = 0;
    c->filled = c->closing = 0;
    want(c, EPOLL_CTL_ADD, 0);
    c->unsent = c->owed * request_length;
    transmit(c);
    if (!c->owed) ask(c, depth);
}

static void lost(struct connection *c) {
    if (!c->closing) failures += c->owed;
    close(c->fd);
    connect_again(c);
}

/* Bytes of the first reply in the buffer; 0 when it is not complete. */
static int reply_length(struct connection *c) {
    if (!http) {
        char *end = memchr(c->buffer, '\n', c->filled);
        return end ? end - c->buffer + 1 : 0;
    }
    c->buffer[c->filled] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(c->buffer, "content-length:");
    c->closing = strcasestr(c->buffer, "connection: close") != NULL;
    *end = '\r';
    int total = end - c->buffer + 4 + (length ? atoi(length + 15) : 0);
    return total <= c->filled ? total : 0;
}

static void take(struct connection *c) {
    ssize_t got = recv(c->fd, c->buffer + c->filled, BUFFER - c->filled, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        lost(c);
        return;
    }
    c->filled += got;
    int length, done = 0, used = 0;
    double at = now();
    if (!http) {
        char *from = c->buffer, *end;
        while ((end = memchr(from, '\n', c->buffer + c->filled - from)) != NULL) { done++; from = end + 1; }
        used = from - c->buffer;
    } else if ((length = reply_length(c)) > 0) {
        done = 1;
        used = length;
    }
    memmove(c->buffer, c->buffer + used, c->filled - used);
    c->filled -= used;
    for (int i = 0; i < done && c->owed > 0; i++) {
        double wait = at - c->sent[c->oldest];
        if (wait > longest) longest = wait;
        c->oldest = (c->oldest + 1) % depth;
        c->owed--;
        replies++;
    }
    if (done && !c->closing) ask(c, done);
}

static void report(struct connection *all, int count) {
    struct rusage usage;
    static double cpu_before;
    double at = now();
    for (int i = 0; i < count; i++)
        if (all[i].owed && at - all[i].sent[all[i].oldest] > longest) longest = at - all[i].sent[all[i].oldest];
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    printf("%ld %.0f %ld %.0f\n", replies, longest, failures, cpu - cpu_before);
    fflush(stdout);
    cpu_before = cpu;
    replies = failures = 0;
    longest = 0;
}

static char *unescape(const char *text) {
    char *result = malloc(strlen(text) + 1), *to = result;
    for (; *text; text++)
        if (text[0] == '\\' && (text[1] == 'n' || text[1] == 'r')) *to++ = *++text == 'n' ? '\n' : '\r';
        else *to++ = *text;
    *to = 0;
    request_length = to - result;
    return result;
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "usage: load ADDRESS CONNECTIONS DEPTH IDLE line|http REQUEST\n"); return 2; }
    parse_address(argv[1]);
    int count = atoi(argv[2]), idle = atoi(argv[4]);
    depth = atoi(argv[3]);
    http = strcmp(argv[5], "http") == 0;
    request = unescape(argv[6]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < idle; i++)
        if (open_socket() < 0) fail("an idle connection");
    struct connection *all = calloc(count + 1, sizeof *all);
    for (int i = 0; i < count; i++) {
        all[i].sent = calloc(depth, sizeof(double));
        all[i].buffer = malloc(BUFFER + 1);
        connect_again(&all[i]);
    }
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) < 0) fail("epoll_ctl");
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int waiting = 0;
        for (int i = 0; i < count; i++) waiting |= all[i].retry_at > 0;
        int found = epoll_wait(poller, events, 256, waiting ? 1 : -1);
        for (int i = 0; i < found; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                char line[256];
                ssize_t got = read(0, line, sizeof line);
                if (got <= 0) return 0;
                report(all, count);
                continue;
            }
            if (events[i].events & EPOLLOUT) { want(c, EPOLL_CTL_MOD, 0); transmit(c); }
            if (events[i].events & ~EPOLLOUT) take(c);
        }
        for (int i = 0; waiting && i < count; i++)
            if (all[i].retry_at > 0 && now() >= all[i].retry_at) connect_again(&all[i]);
    }
}
