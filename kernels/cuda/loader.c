/*
 * loader - opens heron-cuda.so when a CUDA device is asked for. A program without the module says so.
 *
 * Looked for: $HERON_CUDA_MODULE; beside the program, as in a build folder; where it is installed. The module stays loaded until the program ends: the runtime has threads of its own.
 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/module.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const struct cuda_module *module;

/* Try one place. Returns true where there is a file: `err` says what is wrong with it, or module is set. */
static bool try_path(const char *path, struct err *err)
{
    if (access(path, F_OK) != 0)
        return false;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct cuda_module *m = handle ? dlsym(handle, CUDA_MODULE_SYMBOL) : NULL;
    if (!handle)
        err_set(err, ERR_UNSUPPORTED, "%s does not load: %s", path, dlerror());
    else if (!m)
        err_set(err, ERR_UNSUPPORTED, "%s is no CUDA module of Heron: it has no " CUDA_MODULE_SYMBOL, path);
    else if (m->abi != CUDA_MODULE_ABI)
        err_set(err, ERR_UNSUPPORTED, "%s belongs to another version of Heron: install both from one build", path);
    else
        module = m;
    return true;
}

static int load(int index, struct err *err)
{
    const char *named = getenv("HERON_CUDA_MODULE");
    char path[PATH_MAX];
    err_clear(err);
    if (named && *named) {
        if (!try_path(named, err))
            return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: HERON_CUDA_MODULE names %s, which is not there", index,
                           named);
        return module ? 0 : err->code;
    }
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof CUDA_MODULE_NAME - 1);
    if (n > 0) {
        path[n] = '\0';
        char *slash = strrchr(path, '/');
        strcpy(slash ? slash + 1 : path, CUDA_MODULE_NAME);
        if (try_path(path, err))
            return module ? 0 : err->code;
    }
    if (try_path(HERON_PREFIX "/lib/heron/" CUDA_MODULE_NAME, err))
        return module ? 0 : err->code;
    return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: the CUDA module (" CUDA_MODULE_NAME ") is not installed", index);
}

static int loader_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    struct err why = {0};
    pthread_mutex_lock(&mutex);
    const int rc = module ? 0 : load(index, &why);
    pthread_mutex_unlock(&mutex);
    return rc ? err_set(err, rc, "%s", why.text) : module->backend->open(index, options, ret_device, err);
}

const struct kn_backend kn_backend_cuda = {.name = "cuda", .open = loader_open};
