#include "tests/support/test.h"

#include "tests/support/broker.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_MS 30000 /* sanitizers and shared cores are slow */
#define TRIES    5     /* a port that was free may be taken by the time the broker asks for it */

const char *broker_tool(const char *name)
{
    static const char *const folders[] = {"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"};
    static char paths[8][64];
    static int n_paths;
    for (int i = 0; i < n_paths; i++)
        if (strcmp(strrchr(paths[i], '/') + 1, name) == 0)
            return paths[i];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        assert_true(n_paths < 8);
        snprintf(paths[n_paths], sizeof paths[0], "%s/%s", folders[i], name);
        if (access(paths[n_paths], X_OK) == 0)
            return paths[n_paths++];
    }
    return NULL;
}

bool broker_is_there(void)
{
    return broker_tool("mosquitto") && broker_tool("mosquitto_sub") && broker_tool("mosquitto_pub") &&
           broker_tool("mosquitto_passwd") && broker_tool("stdbuf");
}

int broker_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void run_tool(const char *name, const char *const *args)
{
    const char *path = broker_tool(name);
    if (!path)
        fail_msg("%s is not installed", name);
    struct program p;
    program_start(&p, path, args, NULL, NULL);
    const int status = program_await(&p, LIMIT_MS);
    if (status != 0) {
        char *text = program_text(&p, true);
        print_message("%s", text);
        free(text);
        program_release(&p);
        fail_msg("%s ended with %d", name, status);
    }
    program_release(&p);
}

/* An authority, a server certificate for localhost and a client certificate, by the openssl program. */
static void make_certificates(struct broker *b, const char *dir, char cert[320], char key[320])
{
    char ca_key[320], request[320], ext[320];
    snprintf(b->ca, sizeof b->ca, "%s/ca.pem", dir);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", dir);
    snprintf(request, sizeof request, "%s/request.pem", dir);
    snprintf(ext, sizeof ext, "%s/ext", dir);
    run_tool("openssl", PROGRAM_ARGS("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                                     "/CN=heron test authority", "-days", "2", "-keyout", ca_key, "-out", b->ca));
    FILE *f = fopen(ext, "w");
    assert_non_null(f);
    fputs("subjectAltName=DNS:localhost\n", f);
    assert_int_equal(fclose(f), 0);
    const struct {
        const char *name;
        char *cert, *key;
    } made[] = {{"/CN=localhost", cert, key}, {"/CN=client", b->client_cert, b->client_key}};
    for (int i = 0; i < 2; i++) {
        snprintf(made[i].cert, 320, "%s/%d.pem", dir, i);
        snprintf(made[i].key, 320, "%s/%d.key", dir, i);
        run_tool("openssl", PROGRAM_ARGS("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                                         made[i].name, "-keyout", made[i].key, "-out", request));
        run_tool("openssl", PROGRAM_ARGS("x509", "-req", "-in", request, "-CA", b->ca, "-CAkey", ca_key, "-CAcreateserial",
                                         "-days", "2", "-extfile", ext, "-out", made[i].cert));
    }
}

static void write_config(struct broker *b, const struct broker_options *o)
{
    static const char *root; /* one of the few folders serves all brokers of a test program */
    static int n_brokers;
    char dir[288];
    if (!root)
        root = test_temp_dir();
    snprintf(dir, sizeof dir, "%s/%d", root, n_brokers++);
    assert_int_equal(mkdir(dir, 0700), 0);
    char cert[320], key[320];
    snprintf(b->config, sizeof b->config, "%s/mosquitto.conf", dir);
    FILE *f = fopen(b->config, "w");
    assert_non_null(f);
    fprintf(f, "listener %d 127.0.0.1\npersistence false\nlog_type all\n", b->port);
    if (geteuid() == 0)
        fprintf(f, "user root\n"); /* it would drop to one that cannot read the folder */
    if (o->username) {
        char file[320];
        snprintf(file, sizeof file, "%s/passwords", dir);
        snprintf(b->username, sizeof b->username, "%s", o->username);
        snprintf(b->password, sizeof b->password, "%s", o->password);
        run_tool("mosquitto_passwd", PROGRAM_ARGS("-c", "-b", file, o->username, o->password));
        fprintf(f, "allow_anonymous false\npassword_file %s\n", file);
    } else {
        fprintf(f, "allow_anonymous true\n");
    }
    if (o->has_tls) {
        make_certificates(b, dir, cert, key);
        fprintf(f, "cafile %s\ncertfile %s\nkeyfile %s\n", b->ca, cert, key);
        fprintf(f, "require_certificate %s\n", o->wants_client_certificate ? "true" : "false");
    }
    if (o->lines)
        fputs(o->lines, f);
    assert_int_equal(fclose(f), 0);
}

void broker_reserve(struct broker *b, const struct broker_options *options)
{
    const struct broker_options none = {0};
    *b = (struct broker){.port = broker_free_port()};
    write_config(b, options ? options : &none);
}

/* False: the port is taken. */
static bool launch(struct broker *b)
{
    program_start(&b->program, broker_tool("mosquitto"), PROGRAM_ARGS("-c", b->config), NULL, NULL);
    if (program_await_text(&b->program, true, " running\n", LIMIT_MS))
        return true;
    char *text = program_text(&b->program, true);
    const bool is_taken = test_contains(text, "Address already in use");
    if (!is_taken)
        print_message("%s", text);
    free(text);
    program_release(&b->program);
    if (!is_taken)
        fail_msg("mosquitto did not start with %s", b->config);
    return false;
}

void broker_start(struct broker *b, const struct broker_options *options)
{
    for (int i = 0; i < TRIES; i++) {
        broker_reserve(b, options);
        if (launch(b))
            return;
    }
    fail_msg("no free port for mosquitto");
}

void broker_kill(struct broker *b)
{
    program_release(&b->program);
    b->is_frozen = false;
}

void broker_restart(struct broker *b)
{
    broker_kill(b);
    for (int i = 0; i < 50; i++) { /* a client's own end of an old connection may have the port for a moment */
        if (launch(b))
            return;
        usleep(100000);
    }
    fail_msg("port %d was taken by somebody else", b->port);
}

void broker_freeze(struct broker *b)
{
    program_signal(&b->program, SIGSTOP);
    b->is_frozen = true;
}

void broker_thaw(struct broker *b)
{
    if (b->is_frozen)
        program_signal(&b->program, SIGCONT);
    b->is_frozen = false;
}

void broker_release(struct broker *b)
{
    broker_kill(b);
    *b = (struct broker){0};
}

int broker_client_args(const struct broker *b, const char **args, char port_text[8])
{
    int n = 0;
    snprintf(port_text, 8, "%d", b->port);
    args[n++] = "-h";
    args[n++] = b->ca[0] ? "localhost" : "127.0.0.1";
    args[n++] = "-p";
    args[n++] = port_text;
    if (b->username[0]) {
        args[n++] = "-u";
        args[n++] = b->username;
        args[n++] = "-P";
        args[n++] = b->password;
    }
    if (b->ca[0]) {
        args[n++] = "--cafile";
        args[n++] = b->ca;
        args[n++] = "--cert";
        args[n++] = b->client_cert;
        args[n++] = "--key";
        args[n++] = b->client_key;
    }
    return n;
}

void broker_publish(const struct broker *b, const char *topic, const char *payload, bool is_retained)
{
    const char *args[24 + 8];
    char port_text[8];
    int n = broker_client_args(b, args, port_text);
    args[n++] = "-q";
    args[n++] = "1";
    args[n++] = "-t";
    args[n++] = topic;
    args[n++] = "-m";
    args[n++] = payload;
    if (is_retained)
        args[n++] = "-r";
    args[n] = NULL;
    run_tool("mosquitto_pub", args);
}
