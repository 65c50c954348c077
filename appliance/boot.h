/*
 * boot - what survives a restart: how often Heron has started, how the cameras' switches were left, and which cameras the broker may know.
 *
 * Three small files in the state directory, each replaced as a whole (written beside it, synced, renamed), so that a power cut leaves the old
 * or the new one. A file that cannot be read is set aside as NAME.damaged, said once, and begun anew; the count of starts
 * then goes on from the clock, since it may never go back.
 *
 *   boot           a decimal number and a newline
 *   switches.json  {"dock": {"enabled": true, "analysis": false}}; cameras whose switches were never touched are not in it
 *   cameras.json   ["dock", "yard"]
 *   thermal.json   what was learned of the machine's heat (appliance/thermal_memory.h); thermal.log beside it is appliance/ring.h's
 *
 * Life cycle: boot_open -> boot_count, boot_switch_*, boot_camera* -> boot_close.
 * Threads: the main thread. Memory: the table of switches.
 */
#ifndef HERON_APPLIANCE_BOOT_H
#define HERON_APPLIANCE_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct boot;

/*
 * path: the folder; NULL: $STATE_DIRECTORY (its first), /var/lib/heron where it can be written, $XDG_STATE_HOME/heron,
 * ~/.local/state/heron; made where its parent exists. Counts this start. *ret_boot is made in any case but ERR_NOMEM; where there is nowhere
 * to write it counts nothing, keeps switches only in memory, and boot_why says why.
 */
int boot_open(const char *path, struct boot **ret_boot, struct err *err);
void boot_close(struct boot *boot);

/* Which start this is, from 1; 0: there is nowhere to count. */
uint64_t boot_count(const struct boot *boot);

/* Why boot_count is 0; "". */
const char *boot_why(const struct boot *boot);

/* The folder; "": none. */
const char *boot_path(const struct boot *boot);

/* Remember a switch of a camera. Errors: ERR_IO (it holds until the next restart only), ERR_NOMEM. */
int boot_switch_set(struct boot *boot, const char *camera, const char *name, bool is_on, struct err *err);

/* How a switch was left; `otherwise` where it was never touched. */
bool boot_switch_get(const struct boot *boot, const char *camera, const char *name, bool otherwise);

/*
 * Cameras whose retained topics may lie at the broker: number i of what was set last, in this run or the one before; NULL beyond the last. Texts of
 * boot_camera last until the next boot_cameras_set, which may be given them. An equal list is not written again. Errors: ERR_IO, ERR_NOMEM.
 */
const char *boot_camera(const struct boot *boot, size_t i);
int boot_cameras_set(struct boot *boot, const char *const *ids, size_t n, struct err *err);

/*
 * A text that another part wants back after a restart, in a file of this name. Reading: malloc'ed, NULL: there is none. Errors of writing: ERR_IO (also where
 * there is nowhere to write), ERR_NOMEM.
 */
char *boot_text_read(const struct boot *boot, const char *name);
int boot_text_write(const struct boot *boot, const char *name, const char *text, struct err *err);

#endif
