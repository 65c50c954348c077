# Heron. `make help` lists the targets; `make V=1` shows the commands; `make O=folder` builds elsewhere.
#
# Layout: every .c of a room becomes an object; all objects but appliance/main.o form build/libheron.a; the program, the tests
# (tests/<room>/test_*.c), the tools (tools/*.c) and the fuzzers (tests/fuzz/fuzz_*.c) link against it and so pull in only what they
# use. Instruction sets come from the file name: kernels/cpu/*_avx2.c and so on are compiled with their own flags.

O       ?= build
PREFIX  ?= /usr
SYSCONFDIR ?= /etc
UNITDIR ?= /usr/lib/systemd/system
ifeq ($(origin CC),default)
CC      := gcc
endif
CSTD    := -std=c11 -D_GNU_SOURCE
# a * b + c is rounded twice, also where a machine could do it in one step: pictures of the synthetic camera do not depend on the compiler
FUSE    := -ffp-contract=off
OPT     ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter
# warnings are errors with the compilers that Heron is written with; others may know new ones
ifeq ($(origin WERROR),undefined)
WERROR  := $(if $(filter 12 14.%,$(shell $(CC) -dumpversion)),-Werror)
endif
SAN     ?=
VERSION := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)

ifeq ($(V),1)
Q :=
say =
else
Q := @
say = @printf '  %-6s %s\n' '$(1)' '$(2)';
endif

# ---- what the machine has -----------------------------------------------------------------------------------------------
PKGS_GST   := gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0
PKGS_AV    := libavformat libavcodec libswscale libavutil
PKGS       := $(PKGS_GST) $(PKGS_AV) libmosquitto libfyaml jansson libsystemd libudev libutf8proc libcrypto
PKGS_TEST  := cmocka gstreamer-rtsp-server-1.0
have_pkgs  := $(shell pkg-config --exists $(PKGS) 2>/dev/null && echo yes)
ARCH       := $(shell uname -m)

PKG_CFLAGS := $(if $(have_pkgs),$(shell pkg-config --cflags $(PKGS)))
PKG_LIBS   := $(if $(have_pkgs),$(shell pkg-config --libs $(PKGS)))
TEST_CFLAGS = $(shell pkg-config --cflags $(PKGS_TEST))
TEST_LIBS   = $(shell pkg-config --libs $(PKGS_TEST))

CFLAGS  ?=
ALL_CFLAGS  = $(CSTD) $(FUSE) $(OPT) $(WARN) $(WERROR) $(SAN) -I. $(PKG_CFLAGS) \
              -DHERON_PREFIX='"$(PREFIX)"' -DHERON_SYSCONFDIR='"$(SYSCONFDIR)"' $(CFLAGS)
ALL_LDFLAGS = $(SAN) -Wl,--as-needed -pthread $(LDFLAGS)
ALL_LIBS    = $(PKG_LIBS) -ldl -lm

NVCC      := $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_HERE := $(if $(NVCC),$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | grep -E '^[0-9]+$$'))

# ---- sources --------------------------------------------------------------------------------------------------------------
ROOMS   := base kernels kernels/ref kernels/cpu kernels/team engine pipeline appliance
SRC     := $(foreach r,$(ROOMS),$(wildcard $(r)/*.c)) kernels/cuda/loader.c
# instruction sets of the other architecture stay out
ifneq ($(ARCH),x86_64)
SRC     := $(filter-out %_avx2.c %_avx512.c %_amx.c,$(SRC))
endif
ifneq ($(ARCH),aarch64)
SRC     := $(filter-out %_neon.c %_i8mm.c,$(SRC))
endif
SRC     := $(wildcard $(SRC))
OBJ     := $(SRC:%.c=$(O)/%.o)
LIB     := $(O)/libheron.a
MAIN    := $(O)/appliance/main.o
TELL    := $(O)/appliance/version.o
TESTS   := $(patsubst %.c,$(O)/%,$(wildcard tests/base/test_*.c tests/kernels/test_*.c tests/engine/test_*.c \
             tests/pipeline/test_*.c tests/appliance/test_*.c tests/fault/test_*.c tests/thermal/test_*.c tests/e2e/test_*.c))
FUZZERS := $(patsubst %.c,$(O)/%,$(wildcard tests/fuzz/fuzz_*.c))
TOOLS   := $(patsubst %.c,$(O)/%,$(wildcard tools/*.c))
TESTLIB_SRC := $(filter-out tests/support/fake_nvml.c,$(wildcard tests/support/*.c))
TESTLIB := $(TESTLIB_SRC:%.c=$(O)/%.o)
THERMAL_SRC := $(filter-out tests/thermal/test_%.c tests/thermal/bench.c,$(wildcard tests/thermal/*.c))
THERMAL := $(O)/libthermal.a

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all cpu cuda toolkit deps deps-arm demo test test-built test-base test-kernels test-engine test-pipeline test-appliance test-thermal test-e2e test-cuda test-arm arm-built arm-programs asan ubsan \
        tsan sanitized fuzz check check-tools layers headers format format-check cppcheck lines model test-recipe eval-model bench bench-peer bench-thermal install uninstall clean help FORCE

# ---- build ------------------------------------------------------------------------------------------------------------------
all: toolkit cpu $(if $(CUDA_HERE),$(O)/heron-cuda.so) ## the program and the tools; with a CUDA toolkit and a GPU, the CUDA module for it

cpu: $(O)/heron $(TOOLS)            ## the same, without looking for a CUDA toolkit

# The CUDA module: a library that the program opens when a CUDA device is asked for. It holds what it needs of base and kernels itself and shows one symbol. `all` builds it for the GPU at
# hand, `cuda` for every architecture that Heron knows: nothing is compiled in the field.
CUDA_ALL  := 87 89 90 110 120 121
CUDA_ARCHS ?= $(CUDA_HERE)
cuda: $(O)/cuda/archs               ## the CUDA module for all architectures (CUDA toolkit), and what its kernels use of the machine against kernels/cuda/RESOURCES
	@[ -n "$(NVCC)" ] || { echo "make cuda needs nvcc of the CUDA toolkit" >&2; exit 1; }
	@$(MAKE) --no-print-directory CUDA_ARCHS='$(CUDA_ALL)' $(O)/heron-cuda.so
	@tools/cuda_resources $(O)/cuda kernels/cuda/RESOURCES

toolkit:
	@echo "$(if $(NVCC),CUDA toolkit found ($(NVCC)); $(if $(CUDA_HERE),building for sm_$(CUDA_HERE) too,no GPU found: \`make cuda\` builds the module all the same),no CUDA toolkit (nvcc) found: building for the CPU)"

CUDA_SRC  := $(wildcard kernels/cuda/*.cu)
CUDA_OBJ  := $(CUDA_SRC:%.cu=$(O)/cuda/%.o)
CUDA_BASE := base/err base/clock base/file base/process kernels/dtype
CUDA_CODE  = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a))
NVCCFLAGS ?= -O3
empty     :=
CUDA_NAMES = $(subst $(empty) $(empty),/,$(foreach a,$(CUDA_ARCHS),sm_$(a)))

$(O)/cuda/archs: FORCE
	@mkdir -p $(@D); echo '$(CUDA_ARCHS) $(NVCCFLAGS)' | cmp -s - $@ || echo '$(CUDA_ARCHS) $(NVCCFLAGS)' > $@

# -Xptxas -v: what each kernel uses of the machine stands beside its object, for tools/cuda_resources
$(CUDA_OBJ): $(O)/cuda/%.o: %.cu $(O)/cuda/archs
	@mkdir -p $(@D)
	$(call say,NVCC,$<) $(NVCC) -std=c++20 $(NVCCFLAGS) -DHERON_CUDA_ARCHS='"$(CUDA_NAMES)"' -I. $(CUDA_CODE) -Xptxas -v -Xcompiler -fPIC,-fvisibility=hidden,-Wall -MMD -MP -MF $(@:.o=.d) -c -o $@ $< 2> $(@:.o=.log) \
	    || { cat $(@:.o=.log) >&2; exit 1; }

$(CUDA_BASE:%=$(O)/cuda/%.o): $(O)/cuda/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(O)/heron-cuda.so: $(CUDA_OBJ) $(CUDA_BASE:%=$(O)/cuda/%.o)
	$(call say,LD,$@) $(NVCC) -shared -cudart static $(CUDA_CODE) -Xlinker --exclude-libs,ALL -o $@ $^

# The same kernels as C++ over a shim, for the tests: threads are fibers (tests/cuda/shim.hpp).
SHIM      := $(O)/tests/heron-cuda-shim.so
SHIM_OBJ  := $(CUDA_SRC:%.cu=$(O)/shim/%.o) $(O)/shim/tests/cuda/shim.o
SHIM_FLAGS = -std=c++20 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-unknown-pragmas -fno-strict-aliasing -ffp-contract=off $(SAN) -I.
$(O)/shim/%.o: %.cu tests/cuda/shim.hpp $(O)/flags
	@mkdir -p $(@D)
	$(call say,SHIM,$<) $(CXX) $(SHIM_FLAGS) -include tests/cuda/shim.hpp -MMD -MP -MF $(@:.o=.d) -x c++ -c -o $@ $<

$(O)/shim/%.o: %.cpp $(O)/flags
	@mkdir -p $(@D)
	$(call say,SHIM,$<) $(CXX) $(SHIM_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(SHIM): $(SHIM_OBJ) $(CUDA_BASE:%=$(O)/cuda/%.o) Makefile
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CXX) -shared $(SAN) -o $@ $(filter %.o,$^) -ldl -lm
# tests of what any device must do, on that one; and of the shim itself
SHIM_TESTS := kernels/test_ops kernels/test_team kernels/test_lend kernels/test_stream kernels/test_top_k kernels/test_tuning engine/test_shipped cuda/test_memory cuda/test_driver
SHIM_ONLY  := $(O)/tests/cuda/test_memory $(O)/tests/cuda/test_driver
SHIM_SELF  := $(O)/tests/cuda/test_shim
SHIM_RUNS  := $(SHIM_SELF) $(SHIM_TESTS:%=$(O)/shim/run/%)
$(SHIM_SELF): tests/cuda/test_shim.cpp tests/cuda/shim.hpp $(O)/shim/tests/cuda/shim.o $(O)/flags
	@mkdir -p $(@D)
	$(call say,TEST,$@) $(CXX) $(SHIM_FLAGS) -include tests/cuda/shim.hpp -o $@ $< $(O)/shim/tests/cuda/shim.o -lcmocka -lm

$(SHIM_TESTS:%=$(O)/shim/run/%): $(O)/shim/run/%: $(O)/tests/% $(SHIM)
	@mkdir -p $(@D); printf '#!/bin/sh\nHERON_TEST_DEVICE=cuda HERON_CUDA_MODULE=$(abspath $(SHIM)) exec $(abspath $<) "$$@"\n' > $@ && chmod +x $@

-include $(CUDA_OBJ:.o=.d) $(SHIM_OBJ:.o=.d) $(CUDA_BASE:%=$(O)/cuda/%.d)

$(O)/heron: $(MAIN) $(TELL) $(LIB)
	$(call say,LD,$@) $(CC) $(ALL_LDFLAGS) -o $@ $(MAIN) $(TELL) $(LIB) $(ALL_LIBS)

# tests need some version and not the newest: they are not linked anew for it
$(LIB): $(filter-out $(MAIN) $(TELL),$(OBJ)) | $(TELL)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^ $(TELL)

$(O)/kernels/cpu/%_avx2.o: ISA := -mavx2 -mfma -mf16c -mbmi2
$(O)/kernels/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c -mbmi2
$(O)/kernels/cpu/%_amx.o: ISA := -mamx-tile -mamx-int8 -mamx-bf16 -mavx512bf16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c
# gcc orders instructions before it gives out registers: in the long unrolled loops here that takes more of them than there are
$(O)/kernels/cpu/%_neon.o: ISA := -march=armv8.2-a+dotprod+fp16 -fno-schedule-insns
$(O)/kernels/cpu/%_i8mm.o: ISA := -march=armv8.2-a+dotprod+fp16+i8mm+bf16 -fno-schedule-insns
# arithmetic of models has tolerances and gets every step that is there; private: not for what is built on the way
$(O)/kernels/%.o: private FUSE :=
# byte parsers and base convert between integer sizes with care
$(O)/base/%.o $(O)/engine/gguf.o: CONVERT := -Wconversion -Wno-sign-conversion
# one file tells the version: a commit compiles nothing else anew
$(TELL): private ALL_CFLAGS += -DHERON_VERSION='"$(VERSION)"'
$(TELL): $(O)/version

$(O)/flags: FORCE
	@mkdir -p $(O); echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' > $@

$(O)/version: FORCE
	@mkdir -p $(O); echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

$(O)/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(ISA) $(CONVERT) -MMD -MP -c -o $@ $<

$(TESTS) $(SHIM_ONLY) $(O)/tests/support/%.o: private ALL_CFLAGS += $(TEST_CFLAGS)
$(TESTS) $(SHIM_ONLY): $(O)/%: %.c $(LIB) $(TESTLIB) $(O)/flags
	@mkdir -p $(@D)
	$(call say,TEST,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(TESTLIB) $(LIB) $(ALL_LIBS) $(TEST_LIBS)

# what stands for NVIDIA's library where no GPU is: tests open it at run time
$(O)/tests/support/fake_nvml.so: tests/support/fake_nvml.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,TEST,$@) $(CC) $(ALL_CFLAGS) -shared -fPIC -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $<
$(O)/tests/appliance/test_sensors $(O)/tests/appliance/test_sensors_nvml: $(O)/tests/support/fake_nvml.so

# simulated boxes: the tests of the governor and its bench
$(THERMAL): $(THERMAL_SRC:%.c=$(O)/%.o)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^
$(filter $(O)/tests/thermal/%,$(TESTS)): $(THERMAL)
$(filter $(O)/tests/thermal/%,$(TESTS)): private TESTLIB += $(THERMAL)

$(O)/tests/thermal/test_bench: | $(O)/tests/thermal/bench

$(O)/tests/thermal/bench: tests/thermal/bench.c $(THERMAL) $(LIB) $(O)/flags
	$(call say,TOOL,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(THERMAL) $(LIB) $(ALL_LIBS)

$(TOOLS): $(O)/%: %.c $(LIB) $(O)/flags
	@mkdir -p $(@D)
	$(call say,TOOL,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

# A fuzzer is one file with LLVMFuzzerTestOneInput; here it gets a main that replays files, so that make test always runs it.
$(FUZZERS): $(O)/%: %.c $(LIB) $(O)/tests/fuzz/replay.o $(O)/flags
	@mkdir -p $(@D)
	$(call say,FUZZ,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(O)/tests/fuzz/replay.o $(LIB) $(ALL_LIBS)

-include $(OBJ:.o=.d) $(TESTLIB:.o=.d) $(THERMAL_SRC:%.c=$(O)/%.d) $(O)/tests/thermal/bench.d $(TESTS:=.d) $(SHIM_ONLY:=.d) $(FUZZERS:=.d) $(TOOLS:=.d) $(O)/tests/support/fake_nvml.so.d


# ---- set-up ---------------------------------------------------------------------------------------------------------------
DEPS_BUILD := build-essential pkg-config git libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev gstreamer1.0-plugins-base \
              gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav libavformat-dev libavcodec-dev libswscale-dev \
              libavutil-dev libmosquitto-dev mosquitto libfyaml-dev libjansson-dev libsystemd-dev libudev-dev libutf8proc-dev libssl-dev
DEPS_TEST  := libcmocka-dev libgstrtspserver-1.0-dev mosquitto-clients python3 python3-jsonschema python3-numpy
DEPS_ARM   := $(if $(filter x86_64,$(ARCH)),gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
SUDO       := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# shell: $(call get,PACKAGES): those that are missing; fails where one cannot be had
get = missing=$$(for p in $1; do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	[ -z "$$missing" ] || { \
	    echo "installing:" $$missing; \
	    $(SUDO) apt-get update -q >/dev/null || echo "apt-get update failed; trying with the package lists at hand" >&2; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null; \
	}

deps:                               ## install the packages that building, the demo and the tests need (Debian, Ubuntu)
	@$(call get,$(DEPS_BUILD) $(DEPS_TEST)) || { echo "could not install:" $$missing "(only Debian 12 and Ubuntu 24.04 are known to have them all)" >&2; exit 1; }

deps-arm: deps                      ## and those that testing the aarch64 kernels on another machine needs
	@$(call get,$(DEPS_ARM)) || echo "could not install:" $$missing "(the aarch64 kernels cannot be tested without)" >&2

# pkg-config answers are read when make starts: what was just installed is seen by a second make
JOBS ?= $(shell nproc)
define again
@$(MAKE) --no-print-directory -j$(JOBS) O=$(O)
endef

# ---- run and test -----------------------------------------------------------------------------------------------------------
MODEL  := config/model/heron.gguf
VISION := config/model/mmproj-heron.gguf
DEMO_SECONDS ?=
DEMO_SEED    ?=
demo: toolkit deps                  ## a rendered scene (of DEMO_SEED), looked at for DEMO_SECONDS or until Ctrl-C, over a broker of its own
	$(again) $(O)/heron
	@$(O)/heron demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS)) $(if $(DEMO_SEED),--seed $(DEMO_SEED)) -m $(MODEL) -v $(VISION)

test: toolkit deps                  ## build everything and run every test
	$(again) test-built $(if $(ARM_LACKS),,arm-built)
	$(arm_says)
	@tests/run $(TESTS) $(FUZZERS) $(SHIM_RUNS) $(ARM_RUNS)

test-built: $(O)/heron $(TESTS) $(FUZZERS) $(TOOLS) $(SHIM_RUNS)

test-base test-kernels test-engine test-pipeline test-appliance test-thermal test-e2e: test-%: deps ## the tests of one room
	$(again) cpu $(filter $(O)/tests/$*/%,$(TESTS))
	@tests/run $(filter $(O)/tests/$*/%,$(TESTS))

# On a GPU: what runs on the shim elsewhere, and the engine's tests. SANITIZER=memcheck, racecheck, synccheck or initcheck: each under compute-sanitizer.
SANITIZER ?=
GPU_TESTS := kernels/test_ops kernels/test_stream kernels/test_top_k engine/test_shipped engine/test_engine engine/test_golden engine/test_vision
GPU_RUNS  := $(GPU_TESTS:%=$(O)/gpu/run/%)
test-cuda:                          ## the CUDA kernels on the GPU of this machine (SANITIZER=memcheck, racecheck, synccheck, initcheck: under compute-sanitizer)
	@[ -n "$(CUDA_HERE)" ] || { echo "make test-cuda needs a GPU and nvcc of the CUDA toolkit; without a GPU make test runs the kernels on the host" >&2; exit 1; }
	$(again) $(O)/heron-cuda.so $(GPU_TESTS:%=$(O)/tests/%)
	@for t in $(GPU_TESTS); do mkdir -p $(O)/gpu/run/$${t%/*}; \
	    printf '#!/bin/sh\nHERON_TEST_DEVICE=cuda HERON_CUDA_MODULE=$(abspath $(O)/heron-cuda.so) exec $(if $(SANITIZER),compute-sanitizer --error-exitcode 9 --tool $(SANITIZER) )$(abspath $(O))/tests/%s "$$@"\n' $$t > $(O)/gpu/run/$$t && chmod +x $(O)/gpu/run/$$t || exit 1; done
	@tests/run $(GPU_RUNS)

# The kernels of aarch64 on a machine that is not: base, kernels and the kernel tests as static programs, in a build folder of their own, and for each processor that
# qemu imitates a script that runs them there. The first has all levels; the others have no matrix instructions, no dot products: what is chosen there must do without.
ARM_CC    := aarch64-linux-gnu-gcc
ARM_QEMU  := qemu-aarch64
ARM_TESTS := $(notdir $(basename $(wildcard tests/kernels/test_*.c)))
ARM_FEW   := test_cpu_levels test_ops test_top_k
# asked anew when it is needed: make deps may have installed them
ARM_LACKS = $(strip $(if $(filter x86_64,$(ARCH)),$(foreach t,$(ARM_CC) $(ARM_QEMU),$(if $(shell command -v $(t)),,$(t))),$(ARCH)))
ARM_RUNS  = $(if $(ARM_LACKS),,$(ARM_TESTS:%=$(O)/arm/max/%) $(ARM_FEW:%=$(O)/arm/neoverse-n1/%) $(O)/arm/cortex-a72/test_cpu_levels)
arm_says  = $(if $(ARM_LACKS),@echo "aarch64 kernels: $(if $(filter $(ARCH),$(ARM_LACKS)),tests under qemu are for x86_64 machines,not tested: $(ARM_LACKS) is missing)")

# static programs that could look up names are warned about; these tests never do
arm-built:
	@$(MAKE) --no-print-directory O=$(O)/arm ARCH=aarch64 CC=$(ARM_CC) LDFLAGS='-static -Wl,--no-warnings' ROOMS='base kernels kernels/ref kernels/cpu kernels/team' PKG_CFLAGS= PKG_LIBS= \
	    CFLAGS= OPT='-O2 -g' SAN= TEST_CFLAGS=-Itests/support/cross TEST_LIBS= TESTLIB_SRC='tests/support/test.c tests/support/kn_rig.c tests/support/kn_cases.c' \
	    TESTS='$(ARM_TESTS:%=$(O)/arm/tests/kernels/%)' arm-programs
	@for r in $(ARM_RUNS); do d=$${r%/*}; mkdir -p $$d; \
	    printf '#!/bin/sh\nHERON_TEST_FEW=1 exec $(ARM_QEMU) -cpu %s $(O)/arm/tests/kernels/%s "$$@"\n' $${d##*/} $${r##*/} > $$r && chmod +x $$r || exit 1; done

arm-programs: $(TESTS)

test-arm: deps-arm                  ## the kernel tests of aarch64, under qemu
	$(if $(ARM_LACKS),,$(again) arm-built)
	$(arm_says)
	$(if $(ARM_LACKS),,@tests/run $(ARM_RUNS))

asan ubsan tsan: deps                  ## the tests under a sanitizer, in a build folder of its own
	@$(MAKE) --no-print-directory sanitized KIND=$@ O=$(O)-$@

SAN_asan  := -fsanitize=address -fno-omit-frame-pointer
SAN_ubsan := -fsanitize=undefined -fno-sanitize-recover=undefined
SAN_tsan  := -fsanitize=thread
# GStreamer and GLib load plugins of C++ that throw; AddressSanitizer knows how only where libstdc++ was there from the start
LINK_asan := LDFLAGS='-Wl,--no-as-needed -lstdc++ -Wl,--as-needed'
# The ordinary build judges warnings: among a sanitizer's checks gcc loses track of values and warns of what is not so. An absurd size is
# refused with an error, as malloc would, and does not end the program: that is what tests of it look for. Strings are checked as far as they
# are read: strict_string_checks wants a terminator even of what strndup cuts out of a file's bytes. Libraries that are not instrumented report no
# races of their own, but their pthread locks count.
SAN_ENV := ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tests/support/lsan.supp:print_suppressions=0 \
           TSAN_OPTIONS=suppressions=$(CURDIR)/tests/support/tsan.supp:ignore_noninstrumented_modules=1:halt_on_error=1:allocator_may_return_null=1 \
           UBSAN_OPTIONS=print_stacktrace=1 HERON_SANITIZED=1 TEST_TIMEOUT=1800
sanitized:
	@$(MAKE) --no-print-directory -j$(JOBS) O=$(O) SAN='$(SAN_$(KIND))' OPT='-O1 -g' WERROR= $(LINK_$(KIND)) test-built
	@$(SAN_ENV) tests/run $(TESTS) $(FUZZERS) $(if $(filter asan,$(KIND)),$(SHIM_RUNS))

FUZZ_SECONDS ?= 60
fuzz: deps                          ## run each fuzzer for FUZZ_SECONDS with clang's libFuzzer
	@command -v clang >/dev/null || { echo "make fuzz needs clang: apt install clang" >&2; exit 1; }
	@for f in tests/fuzz/fuzz_*.c; do n=$$(basename $$f .c); mkdir -p $(O)-fuzz/found/$$n; \
	    $(MAKE) --no-print-directory -j$(JOBS) O=$(O)-fuzz CC=clang SAN='-fsanitize=address,undefined,fuzzer-no-link' WERROR= $(O)-fuzz/libheron.a && \
	    clang $(CSTD) -g -O1 -fsanitize=address,undefined,fuzzer -I. $(PKG_CFLAGS) -o $(O)-fuzz/$$n $$f $(O)-fuzz/libheron.a $(ALL_LIBS) && \
	    $(O)-fuzz/$$n -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -artifact_prefix=$(O)-fuzz/ $(O)-fuzz/found/$$n tests/fuzz/corpus/$${n#fuzz_} || exit 1; done

# ---- checks -------------------------------------------------------------------------------------------------------------------
check: check-tools layers headers format-check cppcheck lines ## layers, headers compile alone, format, cppcheck, file sizes

check-tools:
	@for t in clang-format cppcheck; do command -v $$t >/dev/null || { echo "make check needs $$t: apt install $$t" >&2; exit 1; }; done

layers:                             ## arrows between rooms point down
	@tools/layers

# sections that another header includes (lanes_avx2.h, tile_body.h) are no headers of their own
headers:                            ## every header compiles alone
	@for h in $$(git ls-files '*.h' | grep -vE '/(lanes_[a-z0-9]+|[a-z]+_body)\.h$$'); do $(CC) $(CSTD) -fsyntax-only $(WARN) -I. $(PKG_CFLAGS) $(TEST_CFLAGS) -x c $$h || exit 1; done; echo "headers: each compiles alone"

format:                             ## clang-format every file
	@clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp')

format-check:
	@clang-format --dry-run --Werror $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp') && echo "format: as .clang-format says"

cppcheck:
	@cppcheck --quiet --enable=warning --std=c11 --error-exitcode=1 --inline-suppr --suppress=missingIncludeSystem \
	    --suppress=nullPointerRedundantCheck --suppress=ctunullpointer -I. base kernels engine pipeline appliance && echo "cppcheck: nothing found"

lines:
	@rc=0; for f in $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh'); do n=$$(wc -l < $$f); [ $$n -le 1000 ] || { echo "$$f: $$n lines, 1000 is the most"; rc=1; }; done; \
	 [ $$rc -eq 0 ] && echo "lines: no file over 1,000"; exit $$rc

# The recipe of the shipped model: seeded, goes on where it stopped; config/model/requirements.txt says what it needs.
MODEL_OUT  ?= $(O)/model
MODEL_FROM ?=
HERON_PYTHON ?= python3
model: deps                         ## train the shipped model anew, or go on from the files in MODEL_FROM, and ship it if it passes (torch; two CPU cores for half a day)
	$(again) $(O)/tools/lessons
	@$(HERON_PYTHON) -c 'import numpy, torch, transformers, tokenizers, safetensors, PIL, gguf' || { echo "make model: install what config/model/requirements.txt names, and name that Python with HERON_PYTHON=" >&2; exit 1; }
	@$(HERON_PYTHON) config/model/train.py --lessons $(O)/tools/lessons --out $(MODEL_OUT) $(if $(MODEL_FROM),--from $(MODEL_FROM))
	@$(HERON_PYTHON) config/model/convert.py $(MODEL_OUT)/checkpoint --type f32 --out $(MODEL_OUT)/heron-f32.gguf --vision $(MODEL_OUT)/mmproj-heron-f32.gguf
	@$(HERON_PYTHON) config/model/convert.py $(MODEL_OUT)/checkpoint --type q8_0 --out $(MODEL_OUT)/heron.gguf --vision $(MODEL_OUT)/mmproj-heron.gguf
	$(again) $(O)/tools/eval_model
	@$(O)/tools/eval_model -m $(MODEL_OUT)/heron.gguf -v $(MODEL_OUT)/mmproj-heron.gguf --scenes $(EVAL_SCENES) --require
	@cp $(MODEL_OUT)/heron.gguf $(MODEL) && cp $(MODEL_OUT)/mmproj-heron.gguf $(VISION)

test-recipe:                        ## tests of the recipe's own parts (torch, as `make model`)
	@$(HERON_PYTHON) config/model/test_recipe.py

EVAL_SCENES ?= 2000
EVAL_MODEL  ?= $(MODEL)
EVAL_VISION ?= $(VISION)
eval-model: deps                    ## how often the shipped model (or EVAL_MODEL with EVAL_VISION) is right on EVAL_SCENES rendered scenes that it was never trained on
	$(again) $(O)/tools/eval_model
	@$(O)/tools/eval_model -m $(EVAL_MODEL) -v $(EVAL_VISION) --scenes $(EVAL_SCENES)

bench: deps                         ## prefill and decode of synthetic 0.8B shapes against the memory's read bandwidth
	$(again) $(O)/heron
	@for t in q4_k q8_0; do $(O)/heron bench --synthetic qwen3.5-0.8b:$$t -p 128 -n 32 || exit 1; done

PAIRS ?= 5
PEER_MODELS ?=
bench-peer: deps                    ## beside llama.cpp, in turns on the same files: PEER="FOLDER..." with llama-bench in each, PAIRS, PEER_MODELS
	@test -n "$(PEER)" || { echo "make bench-peer PEER=FOLDER: where llama-bench lies" >&2; exit 2; }
	$(again) $(O)/heron $(O)/tools/make_model $(O)/tests/kernels/test_ops $(O)/tests/engine/test_golden $(O)/tests/e2e/test_exact
	@tests/bench_peer.py --heron $(O)/heron --maker $(O)/tools/make_model $(PEER:%=--peer %) --pairs $(PAIRS) --folder $(O)/bench-peer \
		--check $(O)/tests/kernels/test_ops --check $(O)/tests/engine/test_golden --check $(O)/tests/e2e/test_exact --image 448x448 --image 640x352 \
		--json $(O)/bench-peer.json $(PEER_MODELS)
	@echo; echo "all samples: $(O)/bench-peer.json"

PLANTS ?= 10000
bench-thermal: deps                 ## the thermal governor in PLANTS simulated boxes of each kind, beside what keeps boxes cool elsewhere; a run as a picture
	$(again) $(O)/tests/thermal/bench
	@$(O)/tests/thermal/bench --plants $(PLANTS) --csv $(O)/bench-thermal.csv --svg $(O)/bench-thermal.svg
	@echo; echo "figures of every box: $(O)/bench-thermal.csv; a run as a picture: $(O)/bench-thermal.svg"

# ---- install ------------------------------------------------------------------------------------------------------------------
install: $(O)/heron                 ## install to DESTDIR, PREFIX, SYSCONFDIR, UNITDIR
	install -D -m 755 $(O)/heron $(DESTDIR)$(PREFIX)/bin/heron
	[ ! -e $(O)/heron-cuda.so ] || install -D -m 644 $(O)/heron-cuda.so $(DESTDIR)$(PREFIX)/lib/heron/heron-cuda.so
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/bin/|$(PREFIX)/bin/|; s|/usr/share/|$(PREFIX)/share/|; s|/etc/heron/|$(SYSCONFDIR)/heron/|' systemd/heron.service > $(DESTDIR)$(UNITDIR)/heron.service
	sed 's|/usr/bin/|$(PREFIX)/bin/|; s|/usr/share/|$(PREFIX)/share/|' systemd/heron-lend@.service > $(DESTDIR)$(UNITDIR)/heron-lend@.service
	install -D -m 644 systemd/heron.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/heron.conf
	install -d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	sed 's|/etc/heron|$(SYSCONFDIR)/heron|' systemd/heron.tmpfiles > $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/heron.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/heron/heron.yaml ] || install -D -m 640 config/heron.yaml $(DESTDIR)$(SYSCONFDIR)/heron/heron.yaml
	install -d $(DESTDIR)$(SYSCONFDIR)/heron/conf.d $(DESTDIR)$(PREFIX)/share/heron/schemas
	install -m 644 config/schemas/*.json $(DESTDIR)$(PREFIX)/share/heron/schemas
	install -d $(DESTDIR)$(PREFIX)/share/heron/model
	install -m 644 $(MODEL) $(VISION) config/model/README.md $(DESTDIR)$(PREFIX)/share/heron/model
	install -D -m 644 config/topics.md $(DESTDIR)$(PREFIX)/share/doc/heron/topics.md

uninstall:                          ## remove what install put there, but for the configuration
	rm -f $(DESTDIR)$(PREFIX)/bin/heron $(DESTDIR)$(PREFIX)/lib/heron/heron-cuda.so $(DESTDIR)$(UNITDIR)/heron.service \
	    $(DESTDIR)$(UNITDIR)/heron-lend@.service $(DESTDIR)$(PREFIX)/lib/sysusers.d/heron.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/heron.conf
	rm -rf $(DESTDIR)$(PREFIX)/share/heron $(DESTDIR)$(PREFIX)/share/doc/heron

clean:                              ## remove the build folder
	rm -rf $(O)

help:                               ## this list
	@awk -F':.*## ' '/^[a-z][a-z0-9 -]*:.*## /{n=split($$1,t," "); for(i=1;i<n;i++) print "  make " t[i]; printf "  make %-15s %s%s\n",t[n],(n>1?"each: ":""),$$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: O=build PREFIX=/usr DESTDIR= V=1 DEMO_SECONDS= DEMO_SEED= FUZZ_SECONDS=60 JOBS=$(JOBS)"
