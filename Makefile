# mha2mla: `make quickstart` and `make test` are the two commands to start with; README.md has the rest.
# BUILD=dir builds elsewhere, CC=clang works (with libomp-dev). The numeric rooms are compiled for several levels of
# x86-64, of which the program takes the best at start; ARCH= picks one processor instead (empty: any of its kind).
BUILD ?= build
LEVELS := $(if $(filter undefined,$(origin ARCH)),$(if $(filter x86_64,$(shell uname -m)),x86-64-v2 x86-64-v3 x86-64-v4))
ARCH ?= $(if $(LEVELS),-march=$(firstword $(LEVELS)))
PACKAGES := gcc make pkg-config libopenblas-dev liblapacke-dev libcjson-dev libpng-dev libjpeg-dev libwebp-dev zlib1g-dev libxxhash-dev \
	libhdf5-dev libdnnl-dev libssl-dev libpcre2-dev libutf8proc-dev libmicrohttpd-dev libcmocka-dev gnuplot-nox
LIBS := openblas lapacke libcjson libpng libjpeg libwebp libwebpdemux zlib hdf5 libcrypto libxxhash libpcre2-8 libutf8proc

# MPI is used where it is installed: make MPI= builds without.
MPI := $(shell pkg-config --exists mpi-c && echo mpi-c)

# The server is built where libmicrohttpd is installed.
HTTP := $(shell pkg-config --exists libmicrohttpd && echo libmicrohttpd)

CPPFLAGS += -D_GNU_SOURCE -I. $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-missing-braces $(if $(findstring clang,$(CC)),-Wno-pass-failed)
ALL_CFLAGS = -std=c17 $(WARN) $(CFLAGS) $(ARCH) -fopenmp -fno-math-errno -fno-trapping-math $(FUSED) $(SANITIZE)
LDLIBS += $(shell pkg-config --libs $(LIBS) $(MPI) 2>/dev/null) -ldnnl -lm
$(BUILD)/cluster/mpi.o: CPPFLAGS += $(if $(MPI),$(shell pkg-config --cflags $(MPI)))
$(BUILD)/autograd/%.o $(BUILD)/double/autograd/%.o: CFLAGS += -O3
# The products of decoding, which are our own, multiply and add in one instruction where the CPU has it.
$(BUILD)/autograd/narrow_%.o $(BUILD)/double/autograd/narrow_%.o: FUSED := -ffp-contract=fast

# Rooms and the rooms in them; the programs train, datasets, chat and serve stand on the others.
ROOMS := base data autograd optim cluster model convert train talk
SOURCES := $(filter-out cluster/$(if $(MPI),alone,mpi).c,$(wildcard $(ROOMS:%=%/*.c) $(ROOMS:%=%/*/*.c)))
NUMERIC := $(filter autograd/% optim/% convert/% data/picture/% base/bf16.c,$(SOURCES))
NUMERIC_OBJ := $(if $(LEVELS),$(LEVELS:%=$(BUILD)/%.o) $(BUILD)/jumps.o,$(patsubst %.c,$(BUILD)/%.o,$(NUMERIC)))
LIB_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out train/main.c $(NUMERIC),$(SOURCES))) $(BUILD)/modeling.o $(NUMERIC_OBJ)
TOOL_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard datasets/*.c))
CHAT_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard chat/*.c))
SERVE_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard serve/*.c)) $(BUILD)/page.o
# What of it needs no HTTP.
DESK_OBJ := $(filter-out %/main.o %/http.o %/page.o,$(SERVE_OBJ))
FUZZ_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/fuzz/libfuzzer.c,$(wildcard tests/fuzz/*.c)))
BENCH_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard bench/lib/*.c))
BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard bench/*.c))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
LONG_TESTS := $(patsubst tests/long/%.c,$(BUILD)/tests/long/%,$(wildcard tests/long/test_*.c))
CLUSTER_TESTS := $(patsubst tests/cluster/%.c,$(BUILD)/tests/cluster/%,$(wildcard tests/cluster/test_*.c))
# The gradient checks run the same code in double precision.
DOUBLE_OBJ := $(patsubst %.c,$(BUILD)/double/%.o,$(wildcard autograd/*.c)) $(patsubst %.c,$(BUILD)/%.o,$(filter base/%,$(SOURCES)))

# How a make starts another: with as many jobs as there are cores, unless -j said otherwise.
CORES = $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
SUB = --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(CORES))

PROGRAMS := $(BUILD)/mha2mla-train $(BUILD)/mha2mla-data $(BUILD)/mha2mla-chat $(if $(HTTP),$(BUILD)/mha2mla-serve)
all: $(PROGRAMS)
	$(if $(HTTP),,@echo "mha2mla-serve is not built: libmicrohttpd is missing; make packages installs it")

LINK = @echo '  LD $@'; $(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(BUILD)/tests/%: LDLIBS += -lcmocka
$(BUILD)/mha2mla-train: $(BUILD)/train/main.o $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/mha2mla-data: $(TOOL_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/mha2mla-chat: $(CHAT_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/mha2mla-serve: LDLIBS += $(shell pkg-config --libs $(HTTP) 2>/dev/null)
$(BUILD)/mha2mla-serve: $(SERVE_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(BENCH_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/test_gradients: $(BUILD)/double/tests/test_gradients.o $(DOUBLE_OBJ)
	$(LINK)
$(BUILD)/tests/test_bpe $(BUILD)/tests/test_datatool $(BUILD)/tests/test_augment $(BUILD)/tests/test_import: %: %.o $(BUILD)/tests/backend.o $(filter-out %/main.o,$(TOOL_OBJ)) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/test_chat: %: %.o $(BUILD)/tests/backend.o $(filter-out %/main.o,$(CHAT_OBJ)) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/test_request $(BUILD)/tests/test_desk: %: %.o $(BUILD)/tests/backend.o $(DESK_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/test_fuzz: %: %.o $(FUZZ_OBJ) $(DESK_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/fuzz/fuzz: LDFLAGS += -fsanitize=fuzzer
$(BUILD)/tests/fuzz/fuzz: $(BUILD)/tests/fuzz/libfuzzer.o $(FUZZ_OBJ) $(DESK_OBJ) $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/tests/backend.o $(BUILD)/libmha2mla.a
	$(LINK)
$(BUILD)/tests/cluster/test_scale: | $(BENCH)
# Preloaded into the program: no sanitizer in it.
$(BUILD)/tests/test_faults $(BUILD)/tests/long/test_faults: | $(BUILD)/tests/fault_malloc.so
$(BUILD)/tests/fault_malloc.so: tests/fault/malloc.c
	@mkdir -p $(@D)
	@echo '  LD $@'; $(CC) $(CPPFLAGS) -std=c17 $(WARN) $(CFLAGS) -shared -fPIC $< -o $@

# The modeling file that converted models carry, as bytes: model/export.h.
$(BUILD)/modeling.c: model/export/modeling_mha2mla.py
	@mkdir -p $(@D)
	@{ printf '#include "model/export.h"\nconst unsigned char export_bytes[] = {\n'; od -An -v -tu1 $< | sed 's/[0-9][0-9]*/&,/g'; \
		printf '};\nconst size_t export_size = sizeof export_bytes;\n'; } > $@.tmp && mv $@.tmp $@
$(BUILD)/modeling.o: $(BUILD)/modeling.c
	@echo '  CC $<'; $(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The page that the server shows: serve/page.h.
$(BUILD)/page.c: serve/page.html
	@mkdir -p $(@D)
	@{ printf '#include "serve/page.h"\nconst unsigned char page_bytes[] = {\n'; od -An -v -tu1 $< | sed 's/[0-9][0-9]*/&,/g'; \
		printf '};\nconst size_t page_size = sizeof page_bytes;\n'; } > $@.tmp && mv $@.tmp $@
$(BUILD)/page.o: $(BUILD)/page.c
	@echo '  CC $<'; $(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libmha2mla.a: $(LIB_OBJ)
	@rm -f $@
	@$(AR) qcs $@ $^

$(BUILD)/double/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC $< (double)'; $(CC) $(CPPFLAGS) -DAUTOGRAD_DOUBLE $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# One object a level, in which a function f is f.LEVEL; and base/cpu.h's jumps, f to the level in use.
define LEVEL_RULES
$(BUILD)/$(1)/%.o: ARCH := -march=$(1)
$(BUILD)/$(1)/%.o: %.c
	@mkdir -p $$(@D)
	@echo '  CC $$< ($(1))'; $$(CC) $$(CPPFLAGS) $$(ALL_CFLAGS) -MMD -MP -c $$< -o $$@
$(BUILD)/$(1)/autograd/%.o: CFLAGS += -O3
$(BUILD)/$(1)/autograd/narrow_%.o: FUSED := -ffp-contract=fast
$(BUILD)/$(1).o: $(NUMERIC:%.c=$(BUILD)/$(1)/%.o)
	@$(LD) -r -o $$@.all $$^
	@nm -g --defined-only $$@.all | awk '{ print $$$$3, $$$$3 ".$(1)" }' > $$@.names
	@objcopy --redefine-syms=$$@.names $$@.all $$@ && rm $$@.all
endef
$(foreach level,$(LEVELS),$(eval $(call LEVEL_RULES,$(level))))
$(BUILD)/jumps.o: $(LEVELS:%=$(BUILD)/%.o) base/cpu.awk
	@nm -g --defined-only $< | awk '$$2 == "T" { sub(/\.x86-64-v.$$/, "", $$3); print $$3 }' | \
		awk -f base/cpu.awk -v levels="$(LEVELS)" > $(BUILD)/jumps.s
	@$(CC) -c $(BUILD)/jumps.s -o $@

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC $<'; $(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Installs what is missing (as root; otherwise says the one line to run).
packages:
	@sh tests/packages.sh $(PACKAGES)

# The small data set of the quickstart, drawn on the spot.
SHAPES := data/sets/shapes/train.json
$(SHAPES):
	$(BUILD)/mha2mla-data shapes --out $(@D) --train 8000 --test 512

quickstart: packages
	@$(MAKE) $(SUB) all
	@$(MAKE) $(SUB) $(SHAPES)
	$(BUILD)/mha2mla-train --config configs/quickstart.json --resume

# Programs, configs and manual pages; DESTDIR= for packagers.
PREFIX ?= /usr/local
INSTALLED := $(DESTDIR)$(PREFIX)
install:
	@[ -x $(BUILD)/mha2mla-train ] || $(MAKE) $(SUB) all
	install -d $(INSTALLED)/bin $(INSTALLED)/share/man/man1
	install $(PROGRAMS) $(INSTALLED)/bin
	install -m 644 docs/man/*.1 $(INSTALLED)/share/man/man1
	@find configs -type f ! -name '*.png' | while read -r f; do install -D -m 644 "$$f" "$(INSTALLED)/share/mha2mla/$$f"; done

# bench/RESULTS.md: ours beside PyTorch's, where bench/venv.sh has made its environment.
BENCH_PYTHON ?= bench/venv/bin/python
BENCH_RUN = BUILD=$(BUILD) $(BUILD)/bench/bench --python "$(BENCH_PYTHON)"
bench: packages
	@$(MAKE) $(SUB) all $(BENCH)
	$(BENCH_RUN) --work $(BUILD)/bench/full --out bench/RESULTS.md

# The same on tiny sizes: does every bench run, and do both sides say the same?
bench-short: all $(BENCH)
	rm -rf $(BUILD)/short && $(BENCH_RUN) --short --work $(BUILD)/short --out $(BUILD)/short.md

# Two processes beside one: docs/scale.md. Its work takes 3 GB.
bench-cluster: packages
	@sh tests/packages.sh libopenmpi-dev openmpi-bin
	@$(MAKE) $(SUB) all $(BENCH)
	BUILD=$(BUILD) $(BUILD)/bench/cluster --work $(BUILD)/bench/cluster-work

# Where the time of a training step goes: docs/speed.md.
bench-step: packages
	@$(MAKE) $(SUB) all $(BUILD)/bench/step
	@$(MAKE) $(SUB) $(SHAPES)
	$(BUILD)/bench/step --config configs/quickstart-published.json

# The server under load: docs/serve.md.
bench-serve: packages
	@$(MAKE) $(SUB) all $(BUILD)/bench/serve_load
	@$(MAKE) $(SUB) $(SHAPES)
	BUILD=$(BUILD) $(BUILD)/bench/serve_load $(or $(SERVED),configs/quickstart/model) 1000 $(dir $(SHAPES))images/test-00000*.png

# The tokenizer's speed beside the `tokenizers` library's, on the data of MHA2MLA_REAL_DATA: see bench/tokenize_speed.py.
PYTHON ?= python3
bench-tokenize: $(BUILD)/bench/tokenize
	BUILD=$(BUILD) $(PYTHON) bench/tokenize_speed.py "$(MHA2MLA_REAL_DATA)"

test: packages
	@$(MAKE) $(SUB) run-tests

BACKENDS ?= tests/backends.txt
run-tests: all $(TESTS) $(BENCH)
	@BUILD=$(BUILD) sh tests/run.sh $(BACKENDS) $(TESTS)

test-long: packages
	@$(MAKE) $(SUB) run-long-tests
	@$(MAKE) $(SUB) old-cpu
	@$(MAKE) $(SUB) arm64
run-long-tests: all $(TESTS) $(LONG_TESTS) $(BENCH)
	@BUILD=$(BUILD) sh tests/run.sh $(BACKENDS) $(TESTS) $(LONG_TESTS)

# Runs of several processes, and runs in a Slurm of one node, which the tests install and start (as root) or skip.
test-cluster: packages
	@sh tests/packages.sh libopenmpi-dev openmpi-bin
	@$(MAKE) $(SUB) run-cluster-tests
run-cluster-tests: all $(CLUSTER_TESTS)
	@BUILD=$(BUILD) JOBS=1 sh tests/run.sh /dev/null $(CLUSTER_TESTS)

# Twice: for any processor of its kind, and for this one.
ASAN := CFLAGS="-O1 -g" SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
asan: packages
	@$(MAKE) $(SUB) run-tests BUILD=$(BUILD)-asan ARCH= BACKENDS=/dev/null $(ASAN)
	@$(MAKE) $(SUB) run-tests BUILD=$(BUILD)-asan-native ARCH=-march=native BACKENDS=/dev/null $(ASAN)

# Data races: clang's ThreadSanitizer with its OpenMP, whose barriers Archer (a part of libomp-dev) makes known to it.
TSAN_TESTS := ops gemm attention cached_single as_cached hidden desk tape model accumulation optim rank mdsvd bf16 golden train
tsan: packages
	@sh tests/packages.sh clang libclang-rt-14-dev libomp-dev
	@$(MAKE) $(SUB) all $(TSAN_TESTS:%=$(BUILD)-tsan/tests/test_%) $(BUILD)-tsan/mha2mla-train \
		$(BUILD)-tsan/mha2mla-data $(BUILD)-tsan/tests/race BUILD=$(BUILD)-tsan CC=clang ARCH= CFLAGS="-O1 -g" SANITIZE=-fsanitize=thread
	@! TSAN_OPTIONS=exitcode=66 $(BUILD)-tsan/tests/race >/dev/null 2>&1 || { echo "tsan: error: a planted race is not seen"; exit 1; }
	@BUILD=$(BUILD)-tsan TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 exitcode=66" OMP_NUM_THREADS=3 \
		sh tests/run.sh /dev/null $(TSAN_TESTS:%=$(BUILD)-tsan/tests/test_%)

# arm64: cross-compiled with Debian's libraries of it (nothing of it is installed), and the tests that start no program,
# run by qemu.
ARM := aarch64-linux-gnu
ARM_ROOT := $(CURDIR)/$(BUILD)-arm64-root
# qemu never gives back what PCRE2's compiled patterns have used: 24 GB in test_tokenizer_equal.
ARM_TESTS := $(filter-out test_tokenizer_equal,\
	$(patsubst tests/%.c,%,$(shell grep -L 'tests/program.h\|tests/fault\|popen' tests/test_*.c)))
arm64: packages
	@sh tests/packages.sh gcc-$(ARM) libc6-dev-arm64-cross qemu-user
	@sh tests/arm64.sh $(ARM_ROOT) libc6-dev libstdc++6 $(filter lib% zlib%,$(PACKAGES))
	@PKG_CONFIG_SYSROOT_DIR=$(ARM_ROOT) PKG_CONFIG_LIBDIR=$(ARM_ROOT)/usr/lib/$(ARM)/pkgconfig \
		$(MAKE) $(SUB) all $(ARM_TESTS:%=$(BUILD)-arm64/tests/%) BUILD=$(BUILD)-arm64 ARCH= \
		CC="$(ARM)-gcc --sysroot=$(ARM_ROOT)" LDFLAGS="$(foreach l,usr/lib lib,-Wl,-rpath-link,$(ARM_ROOT)/$(l)/$(ARM))"
	@QEMU_LD_PREFIX=$(ARM_ROOT) OMP_WAIT_POLICY=passive RUNNER=qemu-aarch64 BUILD=$(BUILD)-arm64 \
		sh tests/run.sh /dev/null $(ARM_TESTS:%=$(BUILD)-arm64/tests/%)

# A CPU of 2008, without AVX, emulated: some of the numeric tests, all in one process, since qemu would leave what they
# start to the machine. A whole small run the same way: OPENBLAS_NUM_THREADS and GOMP_SPINCOUNT set, else it starts anew.
OLD_CPU_TESTS := ops attention tape optim
old-cpu: packages
	@sh tests/packages.sh qemu-user
	@$(MAKE) $(SUB) all $(OLD_CPU_TESTS:%=$(BUILD)/tests/test_%)
	@GOMP_SPINCOUNT=2000 OPENBLAS_NUM_THREADS=1 qemu-x86_64 -cpu Nehalem $(BUILD)/mha2mla-train --config configs/quickstart.json \
		--dry-run 2>&1 | grep "vector code: x86-64-v2"
	@RUNNER="qemu-x86_64 -cpu Nehalem" OMP_WAIT_POLICY=passive BUILD=$(BUILD) \
		sh tests/run.sh /dev/null $(OLD_CPU_TESTS:%=$(BUILD)/tests/test_%)

# libFuzzer on every target (FUZZ_TARGETS="png gif": on these) until it has run FUZZ_RUNS inputs. What it learns stays in
# build-fuzz/corpus; an input that fails lies in build-fuzz and becomes a file of tests/fuzz/corpus.
FUZZ_RUNS ?= 1000000
fuzz: packages
	@sh tests/packages.sh clang libclang-rt-14-dev libomp-dev
	@$(MAKE) $(SUB) $(BUILD)-fuzz/tests/fuzz/fuzz BUILD=$(BUILD)-fuzz CC=clang ARCH= CFLAGS="-O2 -g" \
		SANITIZE="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer"
	@BUILD=$(BUILD)-fuzz FUZZ_RUNS=$(FUZZ_RUNS) sh tests/fuzz/fuzz.sh $(FUZZ_TARGETS)

# The settings' reference, from the program; what stands above its table stays.
docs: $(BUILD)/mha2mla-train
	@{ sed '/^| Key /,$$d' docs/settings.md; $< --help-config; } > docs/settings.md.tmp && mv docs/settings.md.tmp docs/settings.md

FORMATTED := $(wildcard $(addsuffix /*.[ch],$(ROOMS) $(ROOMS:%=%/*) datasets chat serve tests tests/cluster tests/fault tests/fuzz tests/long bench bench/lib))
format:
	clang-format -i $(FORMATTED)

lint:
	@clang-format --dry-run -Werror $(FORMATTED)
	@if LC_ALL=C.UTF-8 grep -nE '^.{101,}' $(FORMATTED); then echo "lines of more than 100 columns"; exit 1; fi
	cppcheck -q -j2 --std=c11 --inline-suppr --enable=warning,performance,portability \
		--error-exitcode=1 -D_GNU_SOURCE -I. -ibench/venv $(ROOMS) datasets chat serve bench

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-asan-native $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-arm64 $(BUILD)-arm64-root $(BUILD)-native

.PHONY: all packages install quickstart bench bench-short bench-cluster bench-step bench-serve bench-tokenize test run-tests test-long run-long-tests test-cluster run-cluster-tests asan tsan arm64 old-cpu fuzz docs format lint clean
.SECONDARY:
-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d $(BUILD)/*/*/*/*.d)
