#include "appliance/demo_terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/terminal.h"

#define PATIENCE_MS 200 /* for a terminal that takes nothing */

/* Another screen, no cursor, nothing wraps at the right edge; and back. */
static const char enter_bytes[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
static const char leave_bytes[] = "\033[?2026l\033[0m\033[?7h\033[?25h\033[?1049l";

static struct {
    volatile sig_atomic_t is_entered; /* the handler of faults asks */
    int fd;                           /* an open file of its own, so that not to block is nobody else's business */
    bool is_silent;                   /* keys are not echoed; `before` is how it was */
    struct termios before;
} terminal = {.fd = -1};

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#define N_FAULTS ((int)(sizeof faults / sizeof faults[0]))
static struct sigaction fault_actions[N_FAULTS];

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

/* No locale, C and en_US say nothing about characters; en_US.ISO-8859-1 does. */
static bool is_utf8_locale(void)
{
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *value = variable(names[i]), *set = strchr(value, '.');
        if (value[0])
            return !set || strncasecmp(set + 1, "utf-8", 5) == 0 || strncasecmp(set + 1, "utf8", 4) == 0;
    }
    return true;
}

bool demo_terminal_is_able(void)
{
    return terminal_is_colourful(STDOUT_FILENO) && is_utf8_locale();
}

bool demo_terminal_is_true_colour(void)
{
    const char *says = variable("COLORTERM");
    return strcmp(says, "truecolor") == 0 || strcmp(says, "24bit") == 0;
}

bool demo_terminal_get_size(int *ret_cols, int *ret_rows)
{
    struct winsize size;
    const pid_t foreground = tcgetpgrp(STDOUT_FILENO);
    /* one that is not this session's cannot tell; it is drawn on all the same */
    if ((foreground > 0 && foreground != getpgrp()) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return false;
    *ret_cols = size.ws_col;
    *ret_rows = size.ws_row;
    return true;
}

/* Only what is safe in a signal handler. */
static void give_back(void)
{
    ssize_t n = write(terminal.fd, leave_bytes, sizeof leave_bytes - 1);
    (void)n; /* there is nobody to tell */
    if (terminal.is_silent)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
}

/* Give the terminal back, then let the fault have its way as if nobody had been here. */
static void on_fault(int number)
{
    const int error = errno;
    if (terminal.is_entered) {
        terminal.is_entered = 0;
        give_back();
    }
    for (int i = 0; i < N_FAULTS; i++)
        if (faults[i] == number)
            sigaction(number, &fault_actions[i], NULL);
    errno = error;
    raise(number);
}

bool demo_terminal_enter(void)
{
    if (terminal.is_entered)
        return true;
    terminal.fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (terminal.fd < 0)
        return false;
    terminal.is_silent =
        isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() && tcgetattr(STDIN_FILENO, &terminal.before) == 0;
    const struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    for (int i = 0; i < N_FAULTS; i++)
        sigaction(faults[i], &action, &fault_actions[i]);
    terminal.is_entered = 1;
    if (terminal.is_silent) {
        struct termios silent = terminal.before;
        silent.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
        silent.c_cc[VMIN] = 0;
        silent.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    }
    demo_terminal_write(enter_bytes, sizeof enter_bytes - 1);
    return true;
}

void demo_terminal_leave(void)
{
    if (!terminal.is_entered)
        return;
    terminal.is_entered = 0;
    demo_terminal_write(leave_bytes, sizeof leave_bytes - 1);
    if (terminal.is_silent) {
        tcflush(STDIN_FILENO, TCIFLUSH); /* keys that were meant for the demo are not the shell's */
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
    }
    terminal.is_silent = false;
    for (int i = 0; i < N_FAULTS; i++)
        sigaction(faults[i], &fault_actions[i], NULL);
    close(terminal.fd);
    terminal.fd = -1;
}

bool demo_terminal_write(const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t written = write(terminal.fd, bytes, n);
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
            continue;
        }
        struct pollfd fd = {.fd = terminal.fd, .events = POLLOUT};
        if (written < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (poll(&fd, 1, PATIENCE_MS) <= 0)
            return false;
    }
    return true;
}

int demo_terminal_fd(void)
{
    return terminal.is_entered && terminal.is_silent ? STDIN_FILENO : -1;
}

char demo_terminal_key(void)
{
    char key = 0;
    if (demo_terminal_fd() < 0 || read(STDIN_FILENO, &key, 1) != 1)
        return 0;
    return key;
}
