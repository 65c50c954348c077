# Heron. `make help` lists the targets; `make V=1` shows the commands; `make O=folder` builds elsewhere.
#
# Layout: every .c of a room becomes an object; all objects but appliance/main.o form build/libheron.a; the program, the tests
# (tests/<room>/test_*.c), the tools (tools/*.c) and the fuzzers (tests/fuzz/fuzz_*.c) link against it and so pull in only what they
# use. Instruction sets come from the file name: kernels/cpu/*_avx2.c and so on are compiled with their own flags.

O       ?= build
PREFIX  ?= /usr
SYSCONFDIR ?= /etc
UNITDIR ?= /usr/lib/systemd/system
CC      ?= gcc
CSTD    := -std=c11 -D_GNU_SOURCE
OPT     ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter
WERROR  ?= -Werror
SAN     ?=
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

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
ALL_CFLAGS  = $(CSTD) $(OPT) $(WARN) $(WERROR) $(SAN) -I. $(PKG_CFLAGS) -DHERON_VERSION='"$(VERSION)"' \
              -DHERON_PREFIX='"$(PREFIX)"' -DHERON_SYSCONFDIR='"$(SYSCONFDIR)"' $(CFLAGS)
ALL_LDFLAGS = $(SAN) -Wl,--as-needed -pthread $(LDFLAGS)
ALL_LIBS    = $(PKG_LIBS) -ldl -lm

# ---- sources --------------------------------------------------------------------------------------------------------------
ROOMS   := base kernels kernels/ref kernels/cpu engine pipeline appliance
SRC     := $(foreach r,$(ROOMS),$(wildcard $(r)/*.c)) kernels/cuda/stub.c
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
TESTS   := $(patsubst %.c,$(O)/%,$(wildcard tests/base/test_*.c tests/kernels/test_*.c tests/engine/test_*.c \
             tests/pipeline/test_*.c tests/appliance/test_*.c tests/fault/test_*.c tests/e2e/test_*.c))
FUZZERS := $(patsubst %.c,$(O)/%,$(wildcard tests/fuzz/fuzz_*.c))
TOOLS   := $(patsubst %.c,$(O)/%,$(wildcard tools/*.c))
TESTLIB_SRC := $(wildcard tests/support/*.c)
TESTLIB := $(TESTLIB_SRC:%.c=$(O)/%.o)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all cpu test test-units test-kernels test-engine test-e2e fuzz asan ubsan tsan check layers headers format format-check cppcheck \
        lines bench install uninstall deps demo clean help FORCE

# ---- build ------------------------------------------------------------------------------------------------------------------
all: $(O)/heron $(TOOLS)            ## the program and the tools

cpu: all                            ## the same, without looking for a CUDA toolkit

$(O)/heron: $(MAIN) $(LIB)
	$(call say,LD,$@) $(CC) $(ALL_LDFLAGS) -o $@ $(MAIN) $(LIB) $(ALL_LIBS)

$(LIB): $(filter-out $(MAIN),$(OBJ))
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^

%_avx2.o: ISA := -mavx2 -mfma -mf16c -mbmi2
$(O)/kernels/cpu/%_avx2.o: ISA := -mavx2 -mfma -mf16c -mbmi2
$(O)/kernels/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx2 -mfma -mf16c -mbmi2
$(O)/kernels/cpu/%_amx.o: ISA := -mamx-tile -mamx-int8 -mamx-bf16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c
$(O)/kernels/cpu/%_neon.o: ISA := -march=armv8.2-a+dotprod+fp16
$(O)/kernels/cpu/%_i8mm.o: ISA := -march=armv8.2-a+dotprod+fp16+i8mm
# byte parsers and base convert between integer sizes with care
$(O)/base/%.o $(O)/engine/gguf.o: CONVERT := -Wconversion -Wno-sign-conversion

$(O)/flags: FORCE
	@mkdir -p $(O); echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' > $@

$(O)/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(ISA) $(CONVERT) -MMD -MP -c -o $@ $<

$(O)/tests/support/%.o: ALL_CFLAGS += $(TEST_CFLAGS)
$(TESTS) $(O)/tests/support/%: ALL_CFLAGS += $(TEST_CFLAGS)
$(TESTS): $(O)/%: %.c $(LIB) $(TESTLIB) $(O)/flags
	@mkdir -p $(@D)
	$(call say,TEST,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(TESTLIB) $(LIB) $(ALL_LIBS) $(TEST_LIBS)

$(TOOLS): $(O)/%: %.c $(LIB) $(O)/flags
	@mkdir -p $(@D)
	$(call say,TOOL,$@) $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

# A fuzzer is one file with LLVMFuzzerTestOneInput; here it gets a main that replays files, so that make test always runs it.
$(FUZZERS): $(O)/%: %.c $(LIB) $(O)/tests/fuzz/replay.o $(O)/flags
	@mkdir -p $(@D)
	$(call say,FUZZ,$@) $(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(O)/tests/fuzz/replay.o $(LIB) $(ALL_LIBS)

-include $(OBJ:.o=.d) $(TESTLIB:.o=.d) $(TESTS:=.d) $(FUZZERS:=.d) $(TOOLS:=.d)

clean:                              ## remove the build folder
	rm -rf $(O)

help:                               ## this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-14s %s\n",$$1,$$2}' $(firstword $(MAKEFILE_LIST))
