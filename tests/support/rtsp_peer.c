#include "tests/support/test.h"

#include "tests/support/rtsp_peer.h"

#include <arpa/inet.h>
#include <gst/rtsp-server/rtsp-server.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static GstRTSPMediaFactory *rtsp_mount(GstRTSPMountPoints *mounts, const char *path, const char *launch)
{
    GstRTSPMediaFactory *f = gst_rtsp_media_factory_new();
    gst_rtsp_media_factory_set_launch(f, launch);
    gst_rtsp_media_factory_set_shared(f, FALSE);
    gst_rtsp_mount_points_add_factory(mounts, path, g_object_ref(f));
    return f;
}

static void rtsp_lock(GstRTSPServer *server, GstRTSPMediaFactory *factory)
{
    GstRTSPAuth *auth = gst_rtsp_auth_new();
    GstRTSPToken *token = gst_rtsp_token_new(GST_RTSP_TOKEN_MEDIA_FACTORY_ROLE, G_TYPE_STRING, "viewer", NULL);
    char *basic = gst_rtsp_auth_make_basic("heron", "p@ss:w/rd");
    gst_rtsp_auth_add_basic(auth, basic, token);
    g_free(basic);
    gst_rtsp_token_unref(token);
    GstRTSPToken *guest = gst_rtsp_token_new(GST_RTSP_TOKEN_MEDIA_FACTORY_ROLE, G_TYPE_STRING, "guest", NULL);
    gst_rtsp_auth_set_default_token(auth, guest);
    gst_rtsp_token_unref(guest);
    gst_rtsp_server_set_auth(server, auth);
    g_object_unref(auth);
    gst_rtsp_media_factory_add_role(factory, "viewer", GST_RTSP_PERM_MEDIA_FACTORY_ACCESS, G_TYPE_BOOLEAN, TRUE,
                                    GST_RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, G_TYPE_BOOLEAN, TRUE, NULL);
    /* Who may see but not construct is told 401; who may not even see, 404. */
    gst_rtsp_media_factory_add_role(factory, "guest", GST_RTSP_PERM_MEDIA_FACTORY_ACCESS, G_TYPE_BOOLEAN, TRUE,
                                    GST_RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, G_TYPE_BOOLEAN, FALSE, NULL);
}

static void rtsp_open_to_all(GstRTSPMediaFactory *factory)
{
    gst_rtsp_media_factory_add_role(factory, "guest", GST_RTSP_PERM_MEDIA_FACTORY_ACCESS, G_TYPE_BOOLEAN, TRUE,
                                    GST_RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, G_TYPE_BOOLEAN, TRUE, NULL);
}

static gboolean rtsp_resize(gpointer capsfilter)
{
    gst_util_set_object_arg(G_OBJECT(capsfilter), "caps", "video/x-raw,format=I420,width=160,height=120,framerate=15/1");
    return G_SOURCE_REMOVE;
}

static void rtsp_on_resizing_media(GstRTSPMediaFactory *factory, GstRTSPMedia *media, gpointer data)
{
    GstElement *element = gst_rtsp_media_get_element(media);
    GstElement *size = gst_bin_get_by_name_recurse_up(GST_BIN(element), "size");
    g_timeout_add_full(G_PRIORITY_DEFAULT, 2000, rtsp_resize, size, gst_object_unref); /* takes the reference */
    gst_object_unref(element);
}

void rtsp_peer_main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--rtsp-peer") != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies takes its peer along */
    gst_init(NULL, NULL);
    GstRTSPServer *server = gst_rtsp_server_new();
    gst_rtsp_server_set_address(server, "127.0.0.1");
    gst_rtsp_server_set_service(server, argv[2]);
    GstRTSPMountPoints *m = gst_rtsp_server_get_mount_points(server);
#define RAW  "video/x-raw,format=I420"
#define SIZE RAW ",width=320,height=240,framerate=15/1 ! "
    GstRTSPMediaFactory *open[] = {
        rtsp_mount(m, "/cam",
                   "( videotestsrc is-live=true pattern=ball ! " SIZE
                   "openh264enc gop-size=15 complexity=low ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"),
        rtsp_mount(m, "/mjpeg", "( videotestsrc is-live=true pattern=ball ! " SIZE "jpegenc ! rtpjpegpay name=pay0 pt=26 )"),
        rtsp_mount(m, "/still", "( videotestsrc is-live=true pattern=smpte75 ! " SIZE "jpegenc ! rtpjpegpay name=pay0 pt=26 )"),
        rtsp_mount(m, "/vp8", "( videotestsrc is-live=true ! " SIZE "vp8enc deadline=1 ! rtpvp8pay name=pay0 pt=96 )"),
        rtsp_mount(m, "/sound", "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 )"),
        rtsp_mount(m, "/resize",
                   "( videotestsrc is-live=true pattern=ball ! capsfilter name=size caps=" RAW
                   ",width=320,height=240,framerate=15/1 "
                   "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"),
    };
    g_signal_connect(open[sizeof open / sizeof open[0] - 1], "media-configure", G_CALLBACK(rtsp_on_resizing_media), NULL);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        rtsp_open_to_all(open[i]);
        g_object_unref(open[i]);
    }
    GstRTSPMediaFactory *locked =
        rtsp_mount(m, "/locked", "( videotestsrc is-live=true pattern=ball ! " SIZE "jpegenc ! rtpjpegpay name=pay0 pt=26 )");
    rtsp_lock(server, locked);
    g_object_unref(locked);
    g_object_unref(m);
    if (gst_rtsp_server_attach(server, NULL) == 0) {
        fprintf(stderr, "the peer cannot listen on port %s\n", argv[2]);
        _exit(1);
    }
    printf("%d\n", gst_rtsp_server_get_bound_port(server));
    fflush(stdout);
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    _exit(0);
}

pid_t rtsp_peer_start(int port, int *ret_port)
{
    int pipe_fd[2];
    assert_int_equal(pipe(pipe_fd), 0);
    char text[16];
    snprintf(text, sizeof text, "%d", port);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fd[1], 1);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        execl("/proc/self/exe", "rtsp-peer", "--rtsp-peer", text, (char *)NULL);
        _exit(127);
    }
    close(pipe_fd[1]);
    FILE *in = fdopen(pipe_fd[0], "r");
    char line[32] = "";
    char *got = fgets(line, sizeof line, in);
    fclose(in);
    if (!got || atoi(line) <= 0) {
        rtsp_peer_kill(pid);
        fail_msg("the RTSP peer did not start");
    }
    if (ret_port)
        *ret_port = atoi(line);
    return pid;
}

void rtsp_peer_kill(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

pid_t rtsp_peer_pid;
int rtsp_peer_port;

int rtsp_peer_set_up(void **state)
{
    rtsp_peer_pid = rtsp_peer_start(0, &rtsp_peer_port);
    return 0;
}

int rtsp_peer_tear_down(void **state)
{
    rtsp_peer_kill(rtsp_peer_pid);
    rtsp_peer_pid = 0;
    return 0;
}

int rtsp_peer_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}
