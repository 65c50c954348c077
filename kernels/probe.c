/* probe - the door's bandwidth probe: each backend measures its own memory. */
#include "kernels/device.h"

double kn_read_bandwidth(struct kn_device *device, size_t bytes, double seconds)
{
    return device->backend->read_bandwidth ? device->backend->read_bandwidth(device, bytes, seconds) : 0;
}
