#include "appliance/version.h"

const char heron_version[] = HERON_VERSION;
