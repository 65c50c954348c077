/* v4l2 - udev enumeration and ioctls. Any thread; descriptors are open only within a call. */
#include "pipeline/v4l2.h"

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pipeline/pipeline.h"

#define MAX_FORMATS  128
#define MAX_CONTROLS 128

static int v4l2_ioctl(int fd, unsigned long request, void *arg)
{
    int rc;
    do
        rc = ioctl(fd, request, arg);
    while (rc < 0 && errno == EINTR);
    return rc;
}

/* Copy at most cap - 1 bytes of a text that may lack its NUL (drivers fill fixed fields). */
static void v4l2_text(char *out, size_t cap, const void *text, size_t text_cap)
{
    size_t n = strnlen(text, text_cap);
    n = n < cap - 1 ? n : cap - 1;
    memcpy(out, text, n);
    out[n] = 0;
}

/* ---- formats -------------------------------------------------------------------------------------------------------------- */

static double v4l2_max_fps(int fd, uint32_t fourcc, uint32_t width, uint32_t height)
{
    double best = 0;
    for (uint32_t i = 0; i < 64; i++) {
        struct v4l2_frmivalenum e = {.index = i, .pixel_format = fourcc, .width = width, .height = height};
        if (v4l2_ioctl(fd, VIDIOC_ENUM_FRAMEINTERVALS, &e) < 0)
            break;
        struct v4l2_fract f = e.type == V4L2_FRMIVAL_TYPE_DISCRETE ? e.discrete : e.stepwise.min;
        double fps = f.numerator ? (double)f.denominator / f.numerator : 0;
        best = fps > best ? fps : best;
        if (e.type != V4L2_FRMIVAL_TYPE_DISCRETE)
            break;
    }
    return best;
}

/* List (format, size) pairs into out[cap]; returns how many. */
static int v4l2_list_formats(int fd, struct pl_format *out, int cap)
{
    int n = 0;
    for (uint32_t i = 0; i < 64 && n < cap; i++) {
        struct v4l2_fmtdesc d = {.index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
        if (v4l2_ioctl(fd, VIDIOC_ENUM_FMT, &d) < 0)
            break;
        for (uint32_t k = 0; k < 64 && n < cap; k++) {
            struct v4l2_frmsizeenum s = {.index = k, .pixel_format = d.pixelformat};
            if (v4l2_ioctl(fd, VIDIOC_ENUM_FRAMESIZES, &s) < 0)
                break;
            bool is_discrete = s.type == V4L2_FRMSIZE_TYPE_DISCRETE;
            uint32_t w = is_discrete ? s.discrete.width : s.stepwise.max_width;
            uint32_t h = is_discrete ? s.discrete.height : s.stepwise.max_height;
            struct pl_format *f = &out[n++];
            *f = (struct pl_format){.width_px = (int)w, .height_px = (int)h};
            for (int b = 0; b < 4; b++) {
                char c = (char)(d.pixelformat >> (8 * b) & 0x7f);
                f->fourcc[b] = c >= 0x20 && c < 0x7f ? c : '?';
            }
            v4l2_text(f->description, sizeof f->description, d.description, sizeof d.description);
            f->max_fps = v4l2_max_fps(fd, d.pixelformat, w, h);
            if (!is_discrete)
                break;
        }
    }
    return n;
}

/* A capture device, not the metadata node beside it. */
static bool v4l2_is_capture(int fd, struct v4l2_capability *ret_cap)
{
    if (v4l2_ioctl(fd, VIDIOC_QUERYCAP, ret_cap) < 0)
        return false;
    uint32_t caps = ret_cap->capabilities & V4L2_CAP_DEVICE_CAPS ? ret_cap->device_caps : ret_cap->capabilities;
    return (caps & V4L2_CAP_VIDEO_CAPTURE) && (caps & V4L2_CAP_STREAMING);
}

int v4l2_choose(const char *node, int64_t max_pixels, struct v4l2_choice *ret_choice, struct err *err)
{
    static const char *const raw[] = {"YUYV", "UYVY", "NV12", "YU12", "YV12", "RGB3", "BGR3", "GREY"};
    int fd = open(node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno == ENOENT || errno == ENODEV || errno == ENXIO ? ERR_NOT_FOUND : ERR_IO, "v4l2: %s",
                             node);
    struct v4l2_capability cap = {0};
    struct pl_format format[MAX_FORMATS];
    bool is_capture = v4l2_is_capture(fd, &cap);
    int n = is_capture ? v4l2_list_formats(fd, format, MAX_FORMATS) : 0;
    close(fd);
    if (!is_capture)
        return err_set(err, ERR_UNSUPPORTED, "v4l2: %s is not a video capture device", node);
    int best = -1;
    int64_t best_score = 0;
    enum v4l2_kind best_kind = V4L2_RAW;
    for (int i = 0; i < n; i++) {
        enum v4l2_kind kind = V4L2_H264;
        bool is_known = strcmp(format[i].fourcc, "H264") == 0;
        if (strcmp(format[i].fourcc, "MJPG") == 0 || strcmp(format[i].fourcc, "JPEG") == 0) {
            kind = V4L2_MJPEG;
            is_known = true;
        }
        for (size_t k = 0; k < sizeof raw / sizeof raw[0]; k++)
            if (strcmp(format[i].fourcc, raw[k]) == 0) {
                kind = V4L2_RAW;
                is_known = true;
            }
        if (!is_known)
            continue;
        int64_t px = (int64_t)format[i].width_px * format[i].height_px;
        /* big enough before too small, then near the wanted size, then by kind; slow raw pictures come last */
        bool is_slow = format[i].max_fps > 0 && format[i].max_fps < 10;
        int64_t distance = px >= max_pixels ? px - max_pixels : 2 * (max_pixels - px) + (INT64_C(1) << 40);
        int64_t score = distance * 8 + kind + (is_slow ? 4 : 0) + (is_slow && kind == V4L2_RAW ? INT64_C(1) << 30 : 0);
        if (best < 0 || score < best_score) {
            best = i;
            best_score = score;
            best_kind = kind;
        }
    }
    if (best < 0)
        return err_set(err, ERR_UNSUPPORTED, "v4l2: %s offers no raw, MJPEG or H.264 pictures (%d formats)", node, n);
    *ret_choice = (struct v4l2_choice){best_kind, format[best].width_px, format[best].height_px};
    return 0;
}

/* ---- controls ------------------------------------------------------------------------------------------------------------- */

static const char *v4l2_control_type(uint32_t type)
{
    switch (type) {
    case V4L2_CTRL_TYPE_INTEGER:
    case V4L2_CTRL_TYPE_INTEGER64: return "integer";
    case V4L2_CTRL_TYPE_BOOLEAN: return "boolean";
    case V4L2_CTRL_TYPE_MENU:
    case V4L2_CTRL_TYPE_INTEGER_MENU: return "menu";
    case V4L2_CTRL_TYPE_BUTTON: return "button";
    default: return "other";
    }
}

static int v4l2_list_controls(int fd, struct pl_control *out, int cap)
{
    int n = 0;
    struct v4l2_query_ext_ctrl q = {.id = V4L2_CTRL_FLAG_NEXT_CTRL};
    while (n < cap && v4l2_ioctl(fd, VIDIOC_QUERY_EXT_CTRL, &q) == 0) {
        uint32_t id = q.id;
        if (q.type != V4L2_CTRL_TYPE_CTRL_CLASS && !(q.flags & V4L2_CTRL_FLAG_DISABLED)) {
            struct pl_control *c = &out[n++];
            *c = (struct pl_control){
                .min = q.minimum,
                .max = q.maximum,
                .step = (int64_t)q.step,
                .def = q.default_value,
                .is_read_only = q.flags & V4L2_CTRL_FLAG_READ_ONLY,
                .is_inactive = q.flags & V4L2_CTRL_FLAG_INACTIVE,
            };
            v4l2_text(c->name, sizeof c->name, q.name, sizeof q.name);
            snprintf(c->type, sizeof c->type, "%s", v4l2_control_type(q.type));
            struct v4l2_ext_control value = {.id = id};
            struct v4l2_ext_controls values = {.which = V4L2_CTRL_WHICH_CUR_VAL, .count = 1, .controls = &value};
            bool is_scalar = strcmp(c->type, "other") != 0 && strcmp(c->type, "button") != 0 &&
                             !(q.flags & (V4L2_CTRL_FLAG_WRITE_ONLY | V4L2_CTRL_FLAG_HAS_PAYLOAD));
            if (is_scalar && v4l2_ioctl(fd, VIDIOC_G_EXT_CTRLS, &values) == 0)
                c->value = q.type == V4L2_CTRL_TYPE_INTEGER64 ? value.value64 : value.value;
        }
        q = (struct v4l2_query_ext_ctrl){.id = id | V4L2_CTRL_FLAG_NEXT_CTRL};
    }
    return n;
}

/* ---- enumeration ---------------------------------------------------------------------------------------------------------- */

static void v4l2_property(struct udev_device *dev, const char *key, char *out, size_t cap)
{
    const char *value = udev_device_get_property_value(dev, key);
    snprintf(out, cap, "%s", value ? value : "");
}

/* Fill one device. Returns false when it is no capture device. */
static bool v4l2_describe(struct udev_device *dev, struct pl_device *d, struct err *err)
{
    const char *node = udev_device_get_devnode(dev);
    const char *caps = udev_device_get_property_value(dev, "ID_V4L_CAPABILITIES");
    if (!node || (caps && !strstr(caps, ":capture:")))
        return false;
    snprintf(d->node, sizeof d->node, "%s", node);
    struct udev_list_entry *link;
    udev_list_entry_foreach(link, udev_device_get_devlinks_list_entry(dev))
    {
        const char *name = udev_list_entry_get_name(link);
        if (strncmp(name, "/dev/v4l/by-id/", 15) == 0)
            snprintf(d->by_id, sizeof d->by_id, "%s", name);
        else if (strncmp(name, "/dev/v4l/by-path/", 17) == 0)
            snprintf(d->by_path, sizeof d->by_path, "%s", name);
    }
    v4l2_property(dev, "ID_V4L_PRODUCT", d->name, sizeof d->name);
    v4l2_property(dev, "ID_VENDOR_ID", d->vendor, sizeof d->vendor);
    v4l2_property(dev, "ID_MODEL_ID", d->product, sizeof d->product);
    v4l2_property(dev, "ID_SERIAL_SHORT", d->serial, sizeof d->serial);
    int fd = open(node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        /* Without the device's own word udev's counts; a node that it knows nothing about is not shown. */
        snprintf(d->error, sizeof d->error, "cannot be opened: %s%s", strerror(errno),
                 errno == EACCES ? " (add the user to the group video)" : "");
        return caps != NULL;
    }
    struct v4l2_capability cap = {0};
    bool is_capture = v4l2_is_capture(fd, &cap);
    if (is_capture) {
        v4l2_text(d->driver, sizeof d->driver, cap.driver, sizeof cap.driver);
        if (!d->name[0])
            v4l2_text(d->name, sizeof d->name, cap.card, sizeof cap.card);
        d->format = calloc(MAX_FORMATS, sizeof *d->format);
        d->control = calloc(MAX_CONTROLS, sizeof *d->control);
        if (!d->format || !d->control) {
            err_set(err, ERR_NOMEM, "no memory for the formats of %s", node);
        } else {
            d->n_formats = v4l2_list_formats(fd, d->format, MAX_FORMATS);
            d->n_controls = v4l2_list_controls(fd, d->control, MAX_CONTROLS);
        }
    }
    close(fd);
    return is_capture;
}

static int v4l2_compare(const void *a, const void *b)
{
    return strverscmp(((const struct pl_device *)a)->node, ((const struct pl_device *)b)->node);
}

static void v4l2_device_release(struct pl_device *d)
{
    free(d->format);
    free(d->control);
}

int pl_devices_open(struct pl_devices *ret_devices, struct err *err)
{
    struct pl_devices list = {0};
    struct err local = {0};
    struct udev_enumerate *e = NULL;
    int rc = 0;
    struct udev *udev = udev_new();
    if (!udev) {
        rc = err_set_errno(err, ERR_IO, "udev");
        goto out;
    }
    e = udev_enumerate_new(udev);
    if (!e || udev_enumerate_add_match_subsystem(e, "video4linux") < 0 || udev_enumerate_scan_devices(e) < 0) {
        rc = err_set_errno(err, ERR_IO, "udev: listing video4linux");
        goto out;
    }
    struct udev_list_entry *entry;
    udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(e))
    {
        struct udev_device *dev = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));
        if (!dev)
            continue; /* it went away between the listing and now */
        struct pl_device d = {0};
        bool is_capture = v4l2_describe(dev, &d, &local);
        udev_device_unref(dev);
        struct pl_device *grown = is_capture ? realloc(list.device, (size_t)(list.n_devices + 1) * sizeof *list.device) : NULL;
        if (is_capture && !grown)
            err_set(&local, ERR_NOMEM, "no memory for %d devices", list.n_devices + 1);
        if (!grown) {
            v4l2_device_release(&d);
            continue;
        }
        list.device = grown;
        list.device[list.n_devices++] = d;
    }
    if (local.code) {
        rc = err_set(err, local.code, "%s", local.text);
        goto out;
    }
    if (list.n_devices)
        qsort(list.device, (size_t)list.n_devices, sizeof *list.device, v4l2_compare);
    *ret_devices = list;
out:
    if (rc)
        pl_devices_close(&list);
    udev_enumerate_unref(e);
    udev_unref(udev);
    return rc;
}

void pl_devices_close(struct pl_devices *devices)
{
    for (int i = 0; i < devices->n_devices; i++)
        v4l2_device_release(&devices->device[i]);
    free(devices->device);
    *devices = (struct pl_devices){0};
}
