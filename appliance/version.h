/*
 * version - which build this is: the tag or commit it was made from, or "unknown".
 *
 * A file of its own, because it changes with every commit: nothing else is compiled anew for that (Makefile). Constant; any thread.
 */
#ifndef HERON_APPLIANCE_VERSION_H
#define HERON_APPLIANCE_VERSION_H

extern const char heron_version[];

#endif
