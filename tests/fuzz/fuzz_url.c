/*
 * A camera's source from anywhere. Checked: what is accepted is within its bounds, parses again from what may be shown of it, and
 * shows no user info; what is refused says why and leaves the result alone.
 */
#include <string.h>

#include "pipeline/url.h"
#include "tests/fuzz/fuzz.h"

static void check(const struct url *u)
{
    REQUIRE(memchr(u->location, '\0', sizeof u->location) && u->location[0]);
    if (u->kind == URL_RTSP) {
        struct url again = {0};
        REQUIRE(u->host[0] && u->port >= 1 && u->port <= 65535);
        REQUIRE(memchr(u->user, '\0', sizeof u->user) && memchr(u->password, '\0', sizeof u->password));
        REQUIRE(strncmp(u->location, u->is_tls ? "rtsps://" : "rtsp://", u->is_tls ? 8 : 7) == 0);
        /* the location is a source of its own, without a user, and its own location */
        REQUIRE(url_parse(u->location, &again, NULL) == 0);
        REQUIRE(!again.user[0] && !again.password[0] && again.port == u->port && strcmp(again.host, u->host) == 0);
        REQUIRE(strcmp(again.location, u->location) == 0);
    } else {
        REQUIRE(!u->user[0] && !u->password[0] && !u->host[0]);
    }
    if (u->kind == URL_SYNTH) {
        REQUIRE(u->width_px >= 64 && u->width_px <= 3840 && u->height_px >= 48 && u->height_px <= 2160);
        REQUIRE(u->fps >= 0.1 && u->fps <= 120);
        REQUIRE(u->quality >= 18 && u->quality <= 40);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *source = malloc(size + 1);
    struct url *u = malloc(sizeof *u), *before = malloc(sizeof *before);
    struct err err = {0};
    REQUIRE(source && u && before);
    memcpy(source, data, size);
    source[size] = '\0';
    memset(u, 0x5A, sizeof *u);
    memcpy(before, u, sizeof *u);
    const int rc = url_parse(source, u, &err);
    if (rc == 0)
        check(u);
    else
        REQUIRE(rc == ERR_INVAL && err.text[0] && memcmp(before, u, sizeof *u) == 0);
    free(before);
    free(u);
    free(source);
    return 0;
}
