/*
 * rtsp_peer - a real RTSP server (gst-rtsp-server) as a process of its own, to be killed, frozen and brought back.
 *
 * The peer is the test program itself, executed again: main must begin with rtsp_peer_main. Paths it serves:
 *   /cam     H.264 320x240 at 15 fps, a key frame every 15        /mjpeg  MJPEG 320x240 at 15 fps
 *   /locked  the same for user "heron", password "p@ss:w/rd"      /still  MJPEG, one picture that never changes
 *   /sound   audio only                                           /vp8    VP8, which Heron does not decode
 *   anything else: 404
 *   /resize  MJPEG whose size changes from 320x240 to 160x120 after 2 s of each session
 */
#ifndef HERON_TESTS_RTSP_PEER_H
#define HERON_TESTS_RTSP_PEER_H

#include <sys/types.h>

/* If this process was executed to be a peer, serve until killed and never return; else return. First thing in main. */
void rtsp_peer_main(int argc, char **argv);

/* Start a peer; port 0 lets it choose. Returns when it listens, with its pid; *ret_port gets the port. Fails the test otherwise. */
pid_t rtsp_peer_start(int port, int *ret_port);

/* SIGKILL and reap. pid 0 does nothing. */
void rtsp_peer_kill(pid_t pid);

/* A peer for the length of a test: for cmocka_unit_test_setup_teardown. The pid may be replaced by another peer's. */
extern pid_t rtsp_peer_pid;
extern int rtsp_peer_port;
int rtsp_peer_set_up(void **state);
int rtsp_peer_tear_down(void **state);

/* A loopback port on which nothing listens. */
int rtsp_peer_free_port(void);

#endif
