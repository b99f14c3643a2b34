/* rocksyd-exec: what `rocksyd exec` does, without the start of a Python.
 *
 * The caller's side of an exec; rocksyd/cli/exec.py is its twin and says why each thing is done. What one of them does, the other
 * does. Anything unusual (an address that only a TOML parser finds, no daemon, wrong usage) is left to the twin: this program then
 * executes `rocksyd exec` with the same arguments.
 *
 * Build: cc -O2 -o rocksyd-exec rocksyd-exec.c
 * Linux only: memfd_create(2), pidfd, SCM_RIGHTS (unix(7)), signalfd(2).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LOST = 255, UNAVAILABLE = 69, PATIENCE_MS = 30000, PAUSE_MS = 50, MOST_CONFIG = 1 << 20 };

extern char **environ;

static const int FORWARDED[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGWINCH};
#define FORWARDED_COUNT (sizeof FORWARDED / sizeof *FORWARDED)

static char **arguments;         /* of this program, for the twin */
static struct sockaddr_un place; /* of the socket for callers */
static char key[32];
static int line = -1, daemon_fd = -1, signals = -1, pidfd = -1;
static pid_t worker;
static sigset_t caught;

/* --- what is left to the twin -------------------------------------------------------------------------------------- */

static void twin(void)
{
    char self[PATH_MAX], path[PATH_MAX + 16];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    size_t count = 0;
    while (arguments[count])
        count++;
    char **words = calloc(count + 2, sizeof *words);
    if (!words)
        _exit(LOST);
    words[0] = "rocksyd";
    words[1] = "exec";
    for (size_t i = 1; i < count; i++)
        words[i + 1] = arguments[i];
    sigprocmask(SIG_UNBLOCK, &caught, NULL);
    if (length > 0) {
        self[length] = 0;
        char *slash = strrchr(self, '/');
        snprintf(path, sizeof path, "%.*s/rocksyd", (int)(slash ? slash - self : 0), self);
        execv(path, words);
    }
    execvp("rocksyd", words);
    dprintf(2, "rocksyd: cannot execute rocksyd: %s\n", strerror(errno));
    _exit(UNAVAILABLE);
}

/* --- where the daemon is ------------------------------------------------------------------------------------------- */

static bool use(const char *folder, const char *path, size_t length)
{
    place.sun_family = AF_UNIX;
    int size;
    if (path[0] == '/')
        size = snprintf(place.sun_path, sizeof place.sun_path, "%.*s.exec", (int)length, path);
    else
        size = snprintf(place.sun_path, sizeof place.sun_path, "%s/%.*s.exec", folder, (int)length, path);
    return size > 0 && (size_t)size < sizeof place.sun_path;
}

/* `unix://PATH`, with `?mode=` behind it or not. */
static bool use_address(const char *folder, const char *text, size_t length)
{
    const char *query = memmem(text, length, "?mode=", 6);
    if (query)
        length = query - text;
    return length > 7 && !memcmp(text, "unix://", 7) && use(folder, text + 7, length - 7);
}

/* The first unix address of `listen = [...]`, if that stands on one line before the first table and is as plain as can be. */
static bool find_listen(const char *folder, char *text)
{
    for (char *rest = text, *row; (row = strsep(&rest, "\n"));) {
        row += strspn(row, " \t\r");
        if (*row == '[')
            return false;
        if (!*row || *row == '#')
            continue;
        char *value = strchr(row, '=');
        if (!value || strchr(row, '\\') || strchr(row, '\'') || strstr(row, "\"\"\""))
            return false;
        size_t name = value - row;
        while (name && strchr(" \t", row[name - 1]))
            name--;
        value++;
        value += strspn(value, " \t");
        if (name != 6 || memcmp(row, "listen", 6)) {
            if (*value == '[' && !strchr(value, ']'))
                return false; /* a list over several lines: what follows is not what it looks like */
            continue;
        }
        if (*value != '[')
            return false;
        for (value++;;) {
            value += strspn(value, " \t,");
            if (*value != '"')
                return false;
            char *end = strchr(++value, '"');
            if (!end)
                return false;
            if (use_address(folder, value, end - value))
                return true;
            value = end + 1;
        }
    }
    return false;
}

static bool find_config(void)
{
    char folder[PATH_MAX], path[PATH_MAX + 16];
    if (!getcwd(folder, sizeof folder))
        return false;
    for (;;) {
        snprintf(path, sizeof path, "%s/rocksyd.toml", strcmp(folder, "/") ? folder : "");
        struct stat status;
        if (!stat(path, &status) && S_ISREG(status.st_mode)) {
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            char *text = status.st_size <= MOST_CONFIG ? malloc(status.st_size + 1) : NULL;
            ssize_t got = fd >= 0 && text ? read(fd, text, status.st_size) : -1;
            close(fd);
            if (got != status.st_size || memchr(text, 0, got))
                return false;
            text[got] = 0;
            return find_listen(folder, text);
        }
        char *slash = strrchr(folder, '/');
        if (slash == folder && !folder[1])
            return false;
        slash[slash == folder] = 0;
    }
}

static bool find_daemon(const char *given)
{
    char folder[PATH_MAX];
    if (!given || !*given)
        given = getenv("ROCKSYD_ADDRESS");
    if (!given || !*given)
        return find_config();
    if (!getcwd(folder, sizeof folder))
        strcpy(folder, "."); /* a folder that has been removed; most addresses are absolute */
    return use_address(folder, given, strlen(given));
}

/* --- the order ----------------------------------------------------------------------------------------------------- */

static void add(FILE *file, const char *word)
{
    fwrite(word, 1, strlen(word) + 1, file);
}

static int surroundings(char **argv, const char *app, const char *priority, const char *opened)
{
    int fd = memfd_create("rocksyd-exec", MFD_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(dup(fd), "w");
    if (!file)
        return -1;
    char folder[PATH_MAX], ignored[64] = "";
    size_t argc = 0;
    mode_t mask = umask(077);
    umask(mask);
    for (size_t i = 0; i < FORWARDED_COUNT; i++) {
        struct sigaction action;
        if (!sigaction(FORWARDED[i], NULL, &action) && action.sa_handler == SIG_IGN)
            snprintf(ignored + strlen(ignored), sizeof ignored - strlen(ignored), "%d ", FORWARDED[i]);
    }
    while (argv[argc])
        argc++;
    add(file, "rocksyd-exec 1");
    fprintf(file, "app=%s%ckey=%s%ccwd=%s%c", app, 0, key, 0, getcwd(folder, sizeof folder) ? folder : "", 0);
    fprintf(file, "umask=%d%copened=%s%cignored=%s%cpriority=%s%cargc=%zu%c", (int)mask, 0, opened, 0, ignored, 0, priority, 0, argc, 0);
    add(file, "");
    for (; *argv; argv++)
        add(file, *argv);
    for (char **variable = environ; *variable; variable++)
        add(file, *variable);
    return fclose(file) ? -1 : fd;
}

static void make_key(void)
{
    unsigned char bytes[6];
    if (syscall(SYS_getrandom, bytes, sizeof bytes, 0) != sizeof bytes)
        twin();
    strcpy(key, "exec-");
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(key + 5 + 2 * i, "%02x", bytes[i]);
}

static bool send_with(int fd, const char *text, const int *fds, size_t count)
{
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {(char *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
}

static void on_signals(void);

/* Say something until it is answered, whatever becomes of the master meanwhile. False where nobody can be reached: the socket
 * outlives every restart and every crash of a master. */
static bool converse(const char *text, const int *fds, size_t count, char *reply, size_t size)
{
    for (int waited = 0; waited <= PATIENCE_MS; waited += PAUSE_MS) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return false;
        if (connect(fd, (struct sockaddr *)&place, sizeof place)) {
            close(fd);
            return false;
        }
        ssize_t got = -1;
        if (send_with(fd, text, fds, count))
            do
                got = recv(fd, reply, size - 1, 0);
            while (got < 0 && errno == EINTR);
        if (got > 0) {
            reply[got] = 0;
            daemon_fd = fd;
            return true;
        }
        close(fd);
        struct pollfd poll_signals = {signals, POLLIN, 0};
        if (poll(&poll_signals, 1, PAUSE_MS) > 0)
            on_signals();
    }
    return false;
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

static void die_of(int number)
{
    struct rlimit limit;
    sigset_t one;
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = 0;
    setrlimit(RLIMIT_CORE, &limit);
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    kill(getpid(), number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    _exit(128 + number);
}

static void ask(void)
{
    char reply[4097] = "", question[64];
    ssize_t got = daemon_fd < 0 ? -1 : recv(daemon_fd, reply, sizeof reply - 1, 0);
    reply[got > 0 ? got : 0] = 0;
    snprintf(question, sizeof question, "ended %s", key);
    while (strncmp(reply, "ended", 5) && strncmp(reply, "unknown", 7)) {
        if (!converse(question, NULL, 0, reply, sizeof reply)) {
            dprintf(2, "rocksyd: nobody knows how the script ended: no daemon answers at unix://%s\n", place.sun_path);
            _exit(LOST);
        }
    }
    int status, number, at = 0;
    if (sscanf(reply, "ended %d %d %n", &status, &number, &at) < 2) {
        dprintf(2, "rocksyd: the daemon does not know how the script ended (run %s)\n", key);
        _exit(LOST);
    }
    if (at && reply[at])
        dprintf(2, "rocksyd: %s\n", reply + at);
    if (number)
        die_of(number);
    _exit(status);
}

/* --- signals ------------------------------------------------------------------------------------------------------- */

static bool has_stopped(void)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)worker);
    for (int tries = 0; tries < 500; tries++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        close(fd);
        if (got <= 0)
            return false;
        text[got] = 0;
        char *state = strstr(text, "\nState:\t"), *ignores = strstr(text, "\nSigIgn:\t");
        if (state && state[8] == 'T')
            return true;
        if (ignores && strtoull(ignores + 9, NULL, 16) & (1ULL << (SIGTSTP - 1)))
            return false;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    return false;
}

static void stop(void)
{
    if (worker) {
        kill(-worker, SIGTSTP);
        if (!has_stopped())
            return;
    }
    sigset_t one, other;
    sigemptyset(&one);
    sigaddset(&one, SIGTSTP);
    sigemptyset(&other);
    sigaddset(&other, SIGCONT);
    kill(getpid(), SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &one, NULL); /* stops here, and goes on after `fg` or `bg` */
    sigprocmask(SIG_BLOCK, &one, NULL);
    sigtimedwait(&other, NULL, &(struct timespec){0, 0}); /* the script is to hear it once */
    if (worker)
        kill(-worker, SIGCONT);
}

static void on_signals(void)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info) {
        int number = info.ssi_signo;
        if (number == SIGTSTP)
            stop();
        else if (worker)
            kill(-worker, number);
        else if (number != SIGCONT && number != SIGWINCH)
            die_of(number); /* the daemon sees the end of the line, and cancels the run */
    }
}

static void catch_signals(void)
{
    sigemptyset(&caught);
    for (size_t i = 0; i < FORWARDED_COUNT; i++) {
        struct sigaction action;
        if (!sigaction(FORWARDED[i], NULL, &action) && action.sa_handler != SIG_IGN)
            sigaddset(&caught, FORWARDED[i]);
    }
    sigprocmask(SIG_BLOCK, &caught, NULL);
    signals = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* --- while it runs ------------------------------------------------------------------------------------------------- */

/* The next word of the worker. False at the end of the line. */
static bool hear(void)
{
    char text[65];
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(line, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0)
        return false;
    text[got] = 0;
    int number;
    if (sscanf(text, "exit %d", &number) == 1)
        _exit(number);
    if (sscanf(text, "signal %d", &number) == 1)
        die_of(number);
    if (sscanf(text, "pid %d", &number) == 1) {
        worker = number;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (head && head->cmsg_type == SCM_RIGHTS)
            memcpy(&pidfd, CMSG_DATA(head), sizeof pidfd);
    }
    return true;
}

static void attend(void)
{
    struct pollfd polled[3] = {{line, POLLIN, 0}, {signals, POLLIN, 0}, {-1, POLLIN, 0}};
    for (;;) {
        if (poll(polled, 3, -1) < 0)
            continue;
        if (polled[0].revents) {
            if (!hear()) {
                if (!worker)
                    ask();
                polled[0].fd = -1; /* the script has closed what it found, or executed something else */
            }
            polled[2].fd = pidfd;
        } else if (polled[2].revents)
            ask();
        if (polled[1].revents)
            on_signals();
    }
}

int main(int argc, char **argv)
{
    const char *app = "", *priority = "0", *address = NULL;
    int at = 1;
    arguments = argv;
    sigemptyset(&caught);
    for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
        if (!argv[at][2]) {
            at++;
            break;
        }
        const char **option = !strcmp(argv[at], "--app") ? &app : !strcmp(argv[at], "--priority") ? &priority
                            : !strcmp(argv[at], "--address")                                      ? &address
                                                                                                  : NULL;
        if (!option || at + 1 == argc)
            twin();
        *option = argv[++at];
    }
    for (const char *digit = priority + (*priority == '-'); *digit; digit++)
        if (!isdigit((unsigned char)*digit))
            twin();
    if (!find_daemon(address))
        twin();
    int fds[6], ends[2];
    char opened[4] = "", reply[4097];
    size_t count = 3, length = 0;
    for (int number = 0; number < 3; number++) /* before anything of ours gets one of these numbers */
        if (fcntl(number, F_GETFD) >= 0) {
            fds[count++] = number;
            opened[length++] = '0' + number;
        }
    catch_signals();
    make_key();
    fds[0] = surroundings(argv + at, app, priority, opened);
    fds[1] = open(".", O_PATH | O_CLOEXEC);
    if (fds[0] < 0 || fds[1] < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        twin();
    line = ends[0];
    fds[2] = ends[1];
    if (!converse("exec 1", fds, count, reply, sizeof reply))
        twin();
    int status, sentence = 0;
    if (sscanf(reply, "refused %d %n", &status, &sentence) == 1) {
        dprintf(2, "rocksyd: %s\n", reply + sentence);
        return status;
    }
    close(ends[1]);
    close(fds[0]);
    attend();
}
