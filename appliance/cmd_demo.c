/*
 * heron demo: the whole way with nothing configured. A broker of its own on loopback, the daemon on rendered cameras, and a subscriber that
 * shows what arrives: on a terminal of colours as a live screen (demo_screen), elsewhere line by line.
 *
 * Broker and daemon are children of this process, in process groups of their own, so that an interrupt reaches them in order: first the
 * daemon, which publishes `offline`, then the broker.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/demo_look.h"
#include "appliance/demo_screen.h"
#include "appliance/demo_show.h"
#include "appliance/demo_terminal.h"
#include "appliance/model_args.h"
#include "appliance/mqtt_link.h"
#include "appliance/sensors.h"
#include "base/clock.h"
#include "engine/engine.h"

const struct cli_command cmd_demo_command = {"demo", "[--seconds N] [--seed N] [-m MODEL -v VISION]",
                                             "a rendered camera, the engine and a broker, with nothing configured", cmd_demo};

#define PREFIX        "heron"
#define CONNECT_NS    (10 * CLOCK_S) /* for the broker to answer */
#define STOP_NS       (25 * CLOCK_S) /* for the daemon to end: it drains for 15 s */
#define TMP_MAX_BYTES 40             /* of TMPDIR: the folder's name goes into paths of fixed length */
#define KEEPALIVE_S   3600           /* to a broker of our own: who is stopped with Ctrl-Z cannot say that he lives */
#define LOG_BYTES_MAX 8192           /* of what the daemon wrote meanwhile, shown at the end */

struct demo {
    struct model_args args;
    int64_t seconds, port, every_ms, seed; /* seed below 0: not given */
    const char *source;                    /* NULL: not given */
    char yard[64];                         /* the source then */
    char folder[64];
    pid_t broker, daemon;
    struct mqtt_link *link;
    int signal_fd;
    bool is_trying, is_up, is_offline;
    char state[32], reason[400]; /* of P/status */
    char problem[300];           /* why it ends early */
    struct demo_tally tally;
    struct demo_show *show; /* NULL: lines */
    bool is_line_mode;      /* what arrives is told line by line */
    bool is_ending;         /* the terminal is not taken again */
    bool is_hung_up;        /* no more keys will come */
    char hint[128];
};

/* ---- children -------------------------------------------------------------------------------------------------------------- */

/* Start argv[0]; it is told to end when this process does. output: a file for both its outputs; NULL: ours. */
static pid_t start_child(char *const argv[], const char *output)
{
    const pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EX_OSERR);
    if (output) {
        const int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0) {
            dup2(fd, STDOUT_FILENO);
            dup2(fd, STDERR_FILENO);
        }
    }
    execvp(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Ask a child to end and wait; kill it when that takes too long. Returns its exit status. */
static int stop_child(pid_t *pid, int64_t patience_ns)
{
    int status = 0;
    if (*pid <= 0)
        return 0;
    kill(*pid, SIGTERM);
    const int64_t end = clock_now_ns() + patience_ns;
    while (waitpid(*pid, &status, WNOHANG) == 0) {
        if (clock_now_ns() > end)
            kill(*pid, SIGKILL);
        clock_sleep_until_ns(clock_now_ns() + 20 * CLOCK_MS);
    }
    *pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Whether a child has ended; its exit status is still to be had. */
static bool is_gone(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Whether a child ended by itself; then it is forgotten. */
static bool has_ended(pid_t *pid)
{
    if (*pid <= 0 || waitpid(*pid, NULL, WNOHANG) != *pid)
        return false;
    *pid = 0;
    return true;
}

/* ---- what they need -------------------------------------------------------------------------------------------------------- */

/* A port of loopback that nobody uses; 0: none. */
static int64_t free_port(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof address;
    const bool ok =
        fd >= 0 && bind(fd, (struct sockaddr *)&address, n) == 0 && getsockname(fd, (struct sockaddr *)&address, &n) == 0;
    if (fd >= 0)
        close(fd);
    return ok ? ntohs(address.sin_port) : 0;
}

/* Whether a broker can have this port. Of one that is taken the broker would say so too, but whoever listens there would be talked to first. */
static bool is_free(int64_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* as the broker does: old connections are no hindrance */
    const bool is = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    const int error = errno;
    close(fd);
    errno = error;
    return is;
}

static const char *in_folder(const struct demo *d, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", d->folder, name);
    return out;
}

static int write_file(const struct demo *d, const char *name, const char *text)
{
    char path[128];
    FILE *f = fopen(in_folder(d, name, path), "we");
    if (!f)
        return cli_fail(&cmd_demo_command, EX_CANTCREAT, "cannot write %s: %s", path, strerror(errno));
    fputs(text, f);
    return fclose(f) == 0 ? 0 : cli_fail(&cmd_demo_command, EX_CANTCREAT, "cannot write %s: %s", path, strerror(errno));
}

/* A text as a YAML scalar in double quotes; malloc'ed. JSON's quoting is YAML's. */
static char *quoted(const char *text)
{
    json_t *value = json_string(text);
    char *out = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    return out;
}

/* The same for a file, by its whole path: the configuration lies in another folder. */
static char *quoted_path(const char *path)
{
    char *whole = realpath(path, NULL), *out = quoted(whole ? whole : path);
    free(whole);
    return out;
}

/* Whether this machine has a temperature to keep a limit of. Without one a daemon works carefully; a demonstration of a minute needs not to. */
static bool has_limit(const char *device)
{
    const struct sensors_options options = {.is_gpu = strncmp(en_device_name(device), "cuda", 4) == 0};
    struct sensors *sensors = NULL;
    struct err err = {0};
    const bool has = sensors_open(&options, &sensors, &err) == 0 && sensors_governing(sensors) > 0;
    sensors_close(sensors);
    return has;
}

static int write_configuration(const struct demo *d)
{
    const char *device = d->args.device ? d->args.device : "auto";
    char *text = NULL, *source = quoted(d->source), *engine = NULL;
    char model[2 * 4096 + 64] = "";
    const int64_t deadline_ms = d->every_ms < 15000 ? 30000 : d->every_ms < 1800000 ? 2 * d->every_ms : 3600000;
    int status = EX_OSERR;
    if (d->args.model) {
        char *m = quoted_path(d->args.model), *v = d->args.vision ? quoted_path(d->args.vision) : NULL;
        snprintf(model, sizeof model, "  model: %s\n%s%s%s", m ? m : "", v ? "  vision: " : "", v ? v : "", v ? "\n" : "");
        free(m);
        free(v);
    }
    if (source && asprintf(&engine, "engine:\n%s  device: %s\n  threads: %lld\n  kv: %s\n", model, device,
                           (long long)d->args.threads, d->args.kv ? d->args.kv : "q8_0") < 0)
        engine = NULL;
    if (engine && asprintf(&text,
                           "%s%s"
                           "mqtt:\n  host: 127.0.0.1\n  port: %lld\n  topic_prefix: " PREFIX "\n"
                           "log:\n  level: warning\n"
                           "cameras:\n  yard:\n    source: %s\n"
                           "    watch: { every: %lldms, deadline: %lldms }\n",
                           engine, has_limit(device) ? "" : "thermal:\n  sensors: none\n", (long long)d->port, source,
                           (long long)d->every_ms, (long long)deadline_ms) < 0)
        text = NULL;
    if (text)
        status = write_file(d, "heron.yaml", text);
    free(text);
    free(engine);
    free(source);
    return status;
}

static int start_broker(struct demo *d)
{
    char conf[200], path[128], log[128];
    if (d->port == 0)
        d->port = free_port();
    else if (!is_free(d->port))
        return cli_fail(&cmd_demo_command, EX_UNAVAILABLE, "port %lld cannot be the broker's: %s", (long long)d->port,
                        strerror(errno));
    /* it would give root up for a user of its own, and with that the word that it is to end when this process does */
    snprintf(conf, sizeof conf, "listener %lld 127.0.0.1\nallow_anonymous true\npersistence false\n%s", (long long)d->port,
             geteuid() == 0 ? "user root\n" : "");
    const int status = write_file(d, "mosquitto.conf", conf);
    if (status != 0)
        return status;
    /* Debian keeps it where only root's PATH looks */
    const char *const places[] = {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto", "mosquitto"};
    const char *program = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !program; i++)
        if (places[i][0] != '/' || access(places[i], X_OK) == 0)
            program = places[i];
    d->broker = start_child((char *[]){(char *)program, "-c", (char *)in_folder(d, "mosquitto.conf", path), NULL},
                            in_folder(d, "mosquitto.log", log));
    return d->broker > 0 ? 0 : cli_fail(&cmd_demo_command, EX_OSERR, "cannot start a process: %s", strerror(errno));
}

static int start_daemon(struct demo *d)
{
    char self[4096], config[128], socket_path[128], state[128];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return cli_fail(&cmd_demo_command, EX_OSERR, "cannot find this program: %s", strerror(errno));
    self[n] = 0;
    char *argv[] = {self,       "run",
                    "-c",       (char *)in_folder(d, "heron.yaml", config),
                    "--socket", (char *)in_folder(d, "heron.sock", socket_path),
                    "--state",  (char *)in_folder(d, "state", state),
                    NULL};
    /* what it writes to the terminal would tear the screen */
    char log[128];
    in_folder(d, "daemon.log", log);
    d->daemon = start_child(argv, d->show && isatty(STDERR_FILENO) ? log : NULL);
    return d->daemon > 0 ? 0 : cli_fail(&cmd_demo_command, EX_OSERR, "cannot start a process: %s", strerror(errno));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

/* The folder was made by this process and is nobody else's; links are removed, not followed. */
static void remove_folder(const struct demo *d)
{
    nftw(d->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- what arrives -------------------------------------------------------------------------------------------------------- */

static void print_clock(void)
{
    char text[DEMO_CLOCK_MAX];
    demo_clock_text(clock_wall_ns(), text);
    printf("%s  ", text);
}

static void take_scene(struct demo *d, const json_t *scene)
{
    struct demo_look look;
    demo_look_read(scene, clock_wall_ns(), &look);
    demo_tally_add(&d->tally, &look);
    if (d->show)
        demo_show_look(d->show, &look);
    if (d->is_line_mode)
        demo_look_print(&look, stdout);
}

static void take_status(struct demo *d, const json_t *status)
{
    const char *state = json_string_value(json_object_get(status, "state"));
    const char *reason = json_string_value(json_array_get(json_object_get(status, "reasons"), 0));
    state = state ? state : "";
    reason = reason ? reason : "";
    const bool is_told = strncmp(reason, d->reason, sizeof d->reason - 1) == 0;
    if (strcmp(state, d->state) == 0 && is_told)
        return;
    snprintf(d->state, sizeof d->state, "%s", state);
    snprintf(d->reason, sizeof d->reason, "%s", reason);
    if (d->show)
        demo_show_status(d->show, d->state, d->reason);
    if (!d->is_line_mode)
        return;
    print_clock();
    printf("%s%s%s\n", state, is_told ? "" : ": ", is_told ? "" : reason);
}

static void on_message(void *ctx, const char *topic, const void *payload, size_t n_bytes, bool is_retained)
{
    struct demo *d = ctx;
    const size_t n_topic = strlen(topic);
    if (strcmp(topic, PREFIX "/available") == 0) {
        d->is_offline = n_bytes == 7 && memcmp(payload, "offline", 7) == 0;
        return;
    }
    json_t *root = json_loadb(payload, n_bytes, 0, NULL);
    if (root && strcmp(topic, PREFIX "/status") == 0)
        take_status(d, root);
    else if (root && n_topic > 6 && strcmp(topic + n_topic - 6, "/scene") == 0)
        take_scene(d, root);
    json_decref(root);
    fflush(stdout);
}

static void on_up(void *ctx)
{
    struct demo *d = ctx;
    struct err err = {0};
    d->is_trying = false;
    d->is_up = true;
    if (mqtt_link_subscribe(d->link, PREFIX "/#", 1, &err) != 0)
        snprintf(d->problem, sizeof d->problem, "%.290s", err.text);
}

static void on_down(void *ctx, const char *cause)
{
    struct demo *d = ctx;
    d->is_trying = false;
    if (d->is_up)
        snprintf(d->problem, sizeof d->problem, "the broker hung up: %.250s", cause);
}

/* ---- the run -------------------------------------------------------------------------------------------------------------- */

/* Take the terminal if it can be had now; otherwise lines tell what arrives. */
static void fit_show(struct demo *d)
{
    const bool was_line_mode = d->is_line_mode;
    d->is_line_mode = !demo_show_fit(d->show);
    if (d->is_line_mode && !was_line_mode)
        printf("(line by line: the live screen needs a terminal of %d x %d in the foreground)\n", DEMO_SCREEN_COLS_MIN,
               DEMO_SCREEN_ROWS_MIN);
    fflush(stdout);
}

/* What the signals say. False: to stop. */
static bool heed_signals(struct demo *d)
{
    struct signalfd_siginfo info;
    while (read(d->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo != SIGWINCH && info.ssi_signo != SIGCONT && info.ssi_signo != SIGTSTP)
            return false;
        if (!d->show || d->is_ending)
            continue;
        if (info.ssi_signo == SIGTSTP) { /* the shell gets its terminal back before it gets its turn */
            demo_show_leave(d->show);
            raise(SIGSTOP);
        }
        fit_show(d);
    }
    return true;
}

/* Wait for the link, at most until `until_ns`. False: told to stop. */
static bool step(struct demo *d, int64_t until_ns)
{
    const int64_t draw_ns = d->show ? demo_show_draw(d->show) : INT64_MAX, now = clock_now_ns();
    const int64_t left_ms = ((draw_ns < until_ns ? draw_ns : until_ns) - now + CLOCK_MS - 1) / CLOCK_MS;
    struct pollfd fds[] = {{.fd = d->signal_fd, .events = POLLIN},
                           {.fd = mqtt_link_fd(d->link), .events = mqtt_link_events(d->link)},
                           {.fd = d->is_hung_up ? -1 : demo_terminal_fd(), .events = POLLIN}};
    poll(fds, 3, left_ms < 0 ? 0 : left_ms > 200 ? 200 : (int)left_ms);
    mqtt_link_step(d->link, fds[1].revents);
    d->is_hung_up = d->is_hung_up || (fds[2].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
    bool is_quit = false;
    for (char key; !d->is_hung_up && (key = demo_terminal_key()) != 0;)
        is_quit = is_quit || key == 'q' || key == 'Q';
    /* where lines go nobody reads them any more, such as `| head` */
    return heed_signals(d) && !is_quit && (!d->is_line_mode || (fflush(stdout) == 0 && !ferror(stdout)));
}

/* The last line that the broker has written. */
static const char *broker_words(const struct demo *d, char out[200])
{
    char path[128], line[200];
    FILE *f = fopen(in_folder(d, "mosquitto.log", path), "re");
    out[0] = 0;
    while (f && fgets(line, sizeof line, f))
        snprintf(out, 200, "It said: %.*s", (int)strcspn(line, "\n"), line);
    if (f)
        fclose(f);
    return out;
}

/* Connect to the broker, which may need a moment. Returns 0 or an exit status. */
static int connect_link(struct demo *d)
{
    const struct mqtt_link_options options = {
        .host = "127.0.0.1",
        .port = (int)d->port,
        .keepalive_s = KEEPALIVE_S,
        .on_up = on_up,
        .on_down = on_down,
        .on_message = on_message,
        .ctx = d,
    };
    struct err err = {0};
    if (mqtt_link_open(&options, &d->link, &err) != 0)
        return cli_error(&cmd_demo_command, &err);
    const int64_t end = clock_now_ns() + CONNECT_NS;
    int64_t again = 0;
    while (!d->is_up) {
        if (has_ended(&d->broker)) {
            char words[200];
            return cli_fail(&cmd_demo_command, EX_UNAVAILABLE,
                            "the broker did not start on port %lld: is mosquitto installed (sudo apt install mosquitto)? %s",
                            (long long)d->port, broker_words(d, words));
        }
        const int64_t now = clock_now_ns();
        if (now > end)
            return cli_fail(&cmd_demo_command, EX_UNAVAILABLE, "the broker does not answer on port %lld", (long long)d->port);
        if (!d->is_trying && now >= again) {
            d->is_trying = mqtt_link_connect(d->link, NULL) == 0; /* nobody may listen yet */
            again = now + 200 * CLOCK_MS;
        }
        if (!step(d, now + 50 * CLOCK_MS))
            return EX_UNAVAILABLE;
    }
    return 0;
}

static void print_head(const struct demo *d)
{
    char config[128];
    printf("Heron demo\n"
           "  camera   %s\n"
           "  model    %s\n"
           "  broker   127.0.0.1:%lld, for the time of the demo: mosquitto_sub -p %lld -t '" PREFIX "/#' -v\n"
           "  config   %s\n"
           "  end      %s\n\n",
           d->source, d->args.model ? d->args.model : model_args_default_model(), (long long)d->port, (long long)d->port,
           in_folder(d, "heron.yaml", config), d->seconds ? "by itself" : "Ctrl-C");
    fflush(stdout);
}

/* The screen is given back; then what the daemon had to say meanwhile, the end of it if it was much. */
static void end_show(struct demo *d)
{
    if (!d->show)
        return;
    demo_show_close(d->show);
    d->show = NULL;
    char path[128], text[LOG_BYTES_MAX + 1];
    FILE *f = fopen(in_folder(d, "daemon.log", path), "re");
    if (!f)
        return;
    if (fseek(f, -LOG_BYTES_MAX, SEEK_END) != 0)
        rewind(f);
    text[fread(text, 1, LOG_BYTES_MAX, f)] = 0;
    fclose(f);
    fputs(text, stderr);
}

static void open_show(struct demo *d)
{
    const struct demo_show_options options = {
        .source = d->source,
        .hint = d->hint,
        .end_ns = d->seconds * CLOCK_S,
        .tally = &d->tally,
    };
    d->is_line_mode = true;
    snprintf(d->hint, sizeof d->hint, "mosquitto_sub -p %lld -t '" PREFIX "/#' -v   tells all", (long long)d->port);
    demo_show_open(&options, &d->show, NULL);
}

static int run_demo(struct demo *d)
{
    int status = start_broker(d);
    if (status != 0 || (status = connect_link(d)) != 0 || (status = write_configuration(d)) != 0)
        return status;
    print_head(d);
    open_show(d);
    if ((status = start_daemon(d)) != 0)
        return status;
    if (d->show)
        d->is_line_mode = !demo_show_fit(d->show);
    const int64_t end = d->seconds ? clock_now_ns() + d->seconds * CLOCK_S : INT64_MAX;
    while (clock_now_ns() < end && !d->problem[0] && step(d, end))
        if (has_ended(&d->daemon))
            snprintf(d->problem, sizeof d->problem, "the daemon ended by itself");
    d->is_ending = true;
    if (d->show && !d->is_line_mode)
        demo_show_leave(d->show); /* what still comes is only counted */
    const bool was_running = d->daemon > 0;
    if (was_running)
        kill(d->daemon, SIGTERM);
    const int64_t patience = clock_now_ns() + STOP_NS; /* its last words */
    while (was_running && !d->is_offline && !d->problem[0] && !is_gone(d->daemon) && clock_now_ns() < patience &&
           step(d, patience))
        ;
    const int daemon_status = stop_child(&d->daemon, STOP_NS);
    end_show(d);
    demo_tally_print(&d->tally, stdout);
    fflush(stdout);
    if (d->problem[0])
        return cli_fail(&cmd_demo_command, EX_UNAVAILABLE, "%s", d->problem);
    if (daemon_status != 0 && daemon_status != 128 + SIGTERM) /* ended by that it had hardly begun */
        return cli_fail(&cmd_demo_command, EX_SOFTWARE, "the daemon ended with status %d", daemon_status);
    if (d->tally.n_looks == 0)
        return cli_fail(&cmd_demo_command, EX_UNAVAILABLE, "nothing was observed%s%s", d->reason[0] ? ": " : "", d->reason);
    return 0;
}

int cmd_demo(int argc, char **argv)
{
    struct demo *d = calloc(1, sizeof *d);
    if (!d)
        return cli_fail(&cmd_demo_command, EX_OSERR, "out of memory");
    d->seed = -1;
    d->every_ms = 2000;
    const struct cli_option table[] = {
        MODEL_ARGS_OPTIONS(&d->args),
        {"seconds", NULL, CLI_INT, &d->seconds, 1, 31536000, "N",
         "end by itself; the exit status says whether observations arrived"},
        {"seed", NULL, CLI_INT, &d->seed, 0, INT64_MAX, "N", "another yard: seed of the rendered camera; 7 without it"},
        {"camera", NULL, CLI_TEXT, &d->source, 0, 0, "SOURCE", "another camera than the rendered one"},
        {"every", NULL, CLI_INT, &d->every_ms, 100, 3600000, "MS", "milliseconds from one look to the next"},
        {"port", NULL, CLI_INT, &d->port, 1, 65535, "N", "of the broker; any free one without it"},
    };
    struct cli_list words = {0};
    struct en_options options = {0};
    int status = cli_parse(&cmd_demo_command, argc, argv, table, sizeof table / sizeof *table, &words);
    if (status == 0 && words.n > 0)
        status = cli_fail(&cmd_demo_command, EX_USAGE, "what is \"%s\"?", words.items[0]);
    if (status == 0 && d->source && d->seed >= 0)
        status = cli_fail(&cmd_demo_command, EX_USAGE,
                          "--seed is of the rendered yard: write it into the source, synth:yard?seed=N");
    snprintf(d->yard, sizeof d->yard, "synth:yard?seed=%lld&size=640x360&fps=5", (long long)(d->seed >= 0 ? d->seed : 7));
    if (!d->source)
        d->source = d->yard;
    if (status == 0 && d->args.isa)
        status = cli_fail(&cmd_demo_command, EX_USAGE,
                          "--isa is not for the daemon that runs here: heron describe and heron bench take it");
    if (status == 0 && d->args.vision && !d->args.model)
        status = cli_fail(&cmd_demo_command, EX_USAGE, "-v names the vision file that belongs to the model of -m");
    if (status == 0)
        status = model_args_apply(&cmd_demo_command, &d->args, &options);
    if (status == 0 && !options.vision_path)
        status = cli_fail(&cmd_demo_command, EX_USAGE, "a camera needs the model's vision file too: name it with -v");
    if (status != 0) {
        free(d);
        return status;
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(d->folder, sizeof d->folder, "%s/heron-demo-XXXXXX", tmp && tmp[0] && strlen(tmp) <= TMP_MAX_BYTES ? tmp : "/tmp");
    if (!mkdtemp(d->folder)) {
        status = cli_fail(&cmd_demo_command, EX_CANTCREAT, "cannot make a folder %s: %s", d->folder, strerror(errno));
        free(d);
        return status;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    struct sigaction hangup; /* a terminal that closes ends it like Ctrl-C; nohup is heeded */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    if (demo_terminal_is_able()) { /* they find the screen, and would leave it as it is */
        const int more[] = {SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            sigaddset(&set, more[i]);
    }
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigdelset(&set, SIGPIPE);
    d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    status = run_demo(d);
    end_show(d);
    stop_child(&d->daemon, STOP_NS);
    mqtt_link_close(d->link);
    stop_child(&d->broker, 5 * CLOCK_S);
    close(d->signal_fd);
    remove_folder(d);
    free(d);
    return status;
}
