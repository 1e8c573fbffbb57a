# make builds the four programs; make help says what else there is. Objects lie under build/DEVICE-PRECISION/, so
# switching back and forth rebuilds nothing. Tests are in test/tests.mk.
define HELP
Build
  make               the four programs, for the GPU if nvcc and a GPU are here, else for the CPU
  make setup         what is missing on this machine, installed if it may be
  make deps          a copy of what a build needs in .deps/, for machines without a network
  make clean         removes what was built

Use
  make demo          learns a small written world, sentiment from 100 labels, then instructions: four minutes
  make bench         training speed beside PyTorch's (PYTHON=... names a Python with torch)
  make gpu-check     proves and measures the GPU build on one GPU, beside PyTorch; writes dev/results/
  make predict       the speed of an H200, from what the emulator counts; needs nvcc; writes dev/results/predicted.md

Test (each ends with "N passed, N failed"; test/README.md says what they show)
  make test          all that needs a compiler and nothing else
  make test-shim     the programs' tests again, with the GPU's kernels and a memory that the host cannot reach
  make test-asan     the same kernels and parsers under AddressSanitizer and UBSan
  make test-tsan     the kernels under ThreadSanitizer, small shapes
  make test-hf       against PyTorch and transformers, in a virtual environment (.venv)
  make test-clang    clang builds the programs; unit, gradient and kernel tests of its build
  make test-aarch64  the same for ARM, cross-compiled and run by qemu
  make fuzz          every reader of files under libFuzzer, SECONDS=60 each; needs clang
  make torture       kills, full disks and power cuts, each followed by a resume that must end bit-equal
  make test-gpu      compiles the GPU build, and runs its tests on the GPU, or in the emulator where there is none
  make build/test/test_ops && build/test/test_ops -tc="*dropout*"       one suite, some of its cases
  .ci/run            all of the above, and the format

Format
  make format        formats C++, CUDA and Python
  make format-check  says what is not formatted, and what ruff finds in the Python

Variables
  DEVICE=cpu         loops and a BLAS, OpenMP                PRECISION=fp32 (default), fp64 or bf16 (oneDNN)
  DEVICE=gpu         the CUDA kernels, by nvcc               PRECISION=bf16 (default) or fp32
  DEVICE=shim        the CUDA kernels, run on the CPU        PRECISION=fp32 (default) or bf16; slow: for tests
  BLAS=loops         without a BLAS: loops of our own, slower
  CXX=clang++        another compiler (clang needs its OpenMP: libomp-dev); its objects lie in build/clang++/
  ARCH=...           nvcc's architecture flags; default: this machine's GPU, else the A100 (sm_80) and the H100 (sm_90)
  V=1                prints the commands
endef
SHELL = /bin/bash
MAKEFLAGS += --no-print-directory
# A job for each core, if there are 1.5 GB of memory for each (the largest files take 0.7 by g++ and by nvcc); make -j4
# means 4.
UNAME ?= $(shell uname -s)
MAC := $(filter Darwin,$(UNAME))
ifeq ($(MAKELEVEL)$(MAC),0)
MAKEFLAGS += -j$(shell awk -v n=$$(nproc) '/^MemAvailable/ { m = int($$2 / 1500000) } \
	END { print m < 1 ? 1 : m < n ? m : n }' /proc/meminfo)
endif

# ---- what this machine has
CUDA_HOME := $(firstword $(wildcard /usr/local/cuda) \
	$(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc 2>/dev/null))))
NVCC := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
HAVE_GPU := $(if $(NVCC),$(shell nvidia-smi -L 2>/dev/null | grep -c ^GPU | grep -v ^0))
DEVICE ?= $(if $(HAVE_GPU),gpu,cpu)
BLAS ?= openblas
ifeq ($(filter openblas loops,$(BLAS)),)
$(error BLAS=$(BLAS): expected openblas or loops)
endif
PRECISION ?= $(if $(filter gpu,$(DEVICE)),bf16,fp32)
# another compiler's objects lie apart: build/clang++/...
O := build$(if $(filter g++ c++,$(notdir $(CXX))),,/$(notdir $(CXX)))
PAIR := $(DEVICE)-$(PRECISION)
ifeq ($(filter $(PAIR),cpu-fp32 cpu-bf16 cpu-fp64 gpu-fp32 gpu-bf16 shim-fp32 shim-bf16),)
$(error DEVICE=$(DEVICE) PRECISION=$(PRECISION) makes no sense: expected fp32 or bf16, or on a cpu fp64)
endif
ONEDNN := $(firstword $(wildcard .deps/include/dnnl.hpp /usr/include/dnnl.hpp /usr/local/include/dnnl.hpp))
ifeq ($(PAIR)$(BLAS)$(ONEDNN),cpu-bf16openblas)
$(error PRECISION=bf16 on a CPU multiplies by oneDNN, and there is none: dev/setup.sh, or apt-get install libdnnl-dev)
endif
B := $(O)/$(PAIR)$(if $(filter loops,$(BLAS)),-loops)

ifeq ($(DEVICE),gpu)
# cuBLASLt: of the toolkit, of .deps (make deps), or of the nvidia-cublas wheel
SITE_PACKAGES := $(if $(NVCC),$(shell python3 -c 'import site; print(*site.getsitepackages())' 2>/dev/null))
CUBLAS_INC := $(dir $(firstword $(wildcard $(CUDA_HOME)/include/cublasLt.h $(CUDA_HOME)/targets/*/include/cublasLt.h \
	$(addsuffix /nvidia/*/include/cublasLt.h,.deps $(SITE_PACKAGES)))))
endif

# ---- flags
# Never -Ofast or -ffinite-math-only: the code uses infinities and tests for NaN.
CLANG := $(if $(MAC),clang,$(findstring clang,$(notdir $(CXX))))
WARN := -Wall -Wextra $(if $(CLANG),-Wno-pass-failed -Wno-unknown-pragmas) $(if $(findstring aarch64,$(CXX)),-Wno-psabi)
# this machine's instructions, where the compiler builds for the machine that it runs on
NATIVE := $(firstword $(foreach flag,-march=native -mcpu=native, \
	$(shell $(CXX) $(flag) -x c++ -E /dev/null >/dev/null 2>&1 && echo $(flag))))
FAST := -O3 $(NATIVE) -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math
DEPS_INC := $(if $(wildcard .deps/include),-isystem .deps/include)
DEPS_RPATH := '$$ORIGIN/../../.deps/lib:$$ORIGIN/../.deps/lib'
DEPS_LIB := $(if $(wildcard .deps/lib),-L.deps/lib -Xlinker -rpath -Xlinker $(DEPS_RPATH)) \
	$(if $(findstring aarch64,$(CXX)),-L.deps/aarch64/lib)
, := ,
LOOPS := $(if $(filter loops,$(BLAS)),-loops)
BLAS_FLAGS := $(if $(LOOPS),-DBLAS_LOOPS)
BLAS_LIBS := $(if $(LOOPS),,$(if $(MAC),-framework Accelerate,-lopenblas))
OPENMP := -fopenmp
ifdef MAC  # Accelerate is the BLAS; OpenMP, utf8proc and nlohmann-json are Homebrew's.
BREW ?= $(shell brew --prefix)
OPENMP := -Xpreprocessor -fopenmp
DEPS_INC += -isystem $(BREW)/include -isystem $(BREW)/opt/libomp/include
DEPS_LIB += -L$(BREW)/lib -L$(BREW)/opt/libomp/lib -lomp
BLAS_FLAGS += -DACCELERATE_NEW_LAPACK
endif
CXXFLAGS := -std=c++17 -I. -MMD -MP $(WARN) $(DEPS_INC) $(BLAS_FLAGS)
LIBS := $(DEPS_LIB) $(BLAS_LIBS) -lutf8proc
# native code if there is a GPU, else code for the A100 (sm_80) and the H100 (sm_90), and their PTX as plain text, which
# the emulator reads (test/emulator/README.md)
A100_AND_H100 := --no-compress $(foreach v,80 90,-gencode arch=compute_$(v)$(,)code=[sm_$(v)$(,)compute_$(v)])
ARCH ?= $(if $(HAVE_GPU),-arch=native,$(A100_AND_H100))
NVCCFLAGS := -std=c++17 -O3 -Xcompiler -Wall,-Wextra,-fopenmp,-march=native -I. -MMD -MP $(ARCH) \
	$(DEPS_INC) -isystem $(CUBLAS_INC) $(BLAS_FLAGS)
# Where the library really is: in a toolkit include/ is often a link, and the library is beside what it points to.
CUBLAS_LIB = $(realpath $(firstword $(wildcard $(addprefix $(CUBLAS_INC)../lib*/,libcublasLt.so libcublasLt.so*))))
CUBLAS_LIB_DIR = $(patsubst %/,%,$(dir $(CUBLAS_LIB)))
GPU_LIBS = -L$(CUBLAS_LIB_DIR) -Xlinker -rpath$(,)$(CUBLAS_LIB_DIR) -l:$(notdir $(CUBLAS_LIB)) -lgomp

PROGRAMS := train_bert finetune_cls train_gpt sft
NO_GPU := $(if $(NVCC), (nvcc is here but no GPU; make DEVICE=gpu compiles for one), (no nvcc))
WHY_CPU := $(if $(filter cpu,$(DEVICE)),$(if $(HAVE_GPU),,$(NO_GPU)))
all: $(PROGRAMS) data/tokenize
	@echo "built $(PROGRAMS:%=./%) data/tokenize for $(DEVICE), $(PRECISION)$(if $(LOOPS), without a BLAS)$(WHY_CPU)"

# ./train_bert is the last one built
$(PROGRAMS): %: $(B)/%
	@ln -sf $< $@
.PHONY: all $(PROGRAMS)

# ---- compiling
# A recipe prints one short line, or with V=1 its commands: $(call say,CC), then $(Q)command.
Q := $(if $(V),,@)
say = @mkdir -p $(@D)$(if $(V),, && printf '  %-4s  %s\n' $(1) $@)
# All the compiling there is: $(call compile,FLAGS), $(call link,FLAGS), $(call nvcc_compile,FLAGS), $(call nvcc_link).
# What ptxas says of every kernel is kept beside the object, for dev/ptxas.py.
define compile
$(call say,CC)
$(Q)$(CXX) -x c++ $(CXXFLAGS) $(1) -c $< -o $@
endef
define link
$(call say,LD)
$(Q)$(CXX) $(1) $(filter %.o,$^) -o $@ $(LIBS)
endef
define nvcc_compile
$(if $(NVCC),,$(error DEVICE=gpu needs nvcc, and there is none: install the CUDA toolkit, or build with DEVICE=cpu))
$(if $(CUBLAS_INC),,$(error DEVICE=gpu needs cuBLAS, and $(CUDA_HOME) has none: dev/setup.sh gpu gets it from a wheel))
$(call say,NVCC)
$(Q)$(NVCC) $(NVCCFLAGS) $(1) -Xptxas -v -x cu -c $< -o $@ 2> $@.ptxas; code=$$?; \
	grep -vE '^(ptxas info|    [0-9]+ bytes stack frame)' $@.ptxas >&2; exit $$code
endef
define nvcc_link
$(call say,LD)
$(Q)$(NVCC) $(ARCH) $(filter %.o,$^) -o $@ $(LIBS) $(GPU_LIBS)
endef
CPU_FLAGS := $(FAST) $(OPENMP)
SHIM_FLAGS := -O2 $(NATIVE) -DSHIM -fopenmp
FP64 := -DPRECISION_FP64
BF16 := -DPRECISION_BF16

# what knows nothing of devices: files, JSON, Unicode
BASE_OBJECTS := $(patsubst common/base/%.cpp,$(O)/%.o,$(wildcard common/base/*.cpp))
$(O)/%.o: common/base/%.cpp
	$(call compile,-O2)

# programs of every device and precision: $(call program_rules,DEVICE-PRECISION,FLAGS)
define program_rules
$(O)/$(1)$(LOOPS)/%.o: %.cu
	$$(call compile,$(2))
$(O)/$(1)$(LOOPS)/%: $(O)/$(1)$(LOOPS)/%.o $(BASE_OBJECTS)
	$$(call link,$(OPENMP))
endef
$(eval $(call program_rules,cpu-fp32,$(CPU_FLAGS)))
$(eval $(call program_rules,cpu-fp64,$(CPU_FLAGS) $(FP64)))
$(eval $(call program_rules,cpu-bf16,$(CPU_FLAGS) $(BF16) $(if $(LOOPS),,-DONEDNN)))
$(O)/cpu-bf16/%: LIBS += -ldnnl
$(eval $(call program_rules,shim-fp32,$(SHIM_FLAGS)))
$(eval $(call program_rules,shim-bf16,$(SHIM_FLAGS) $(BF16)))
define gpu_program_rules
$(O)/$(1)$(LOOPS)/%.o: %.cu
	$$(call nvcc_compile,$(2))
$(O)/$(1)$(LOOPS)/%: $(O)/$(1)$(LOOPS)/%.o $(BASE_OBJECTS)
	$$(call nvcc_link)
endef
$(eval $(call gpu_program_rules,gpu-fp32))
$(eval $(call gpu_program_rules,gpu-bf16,$(BF16)))

# how long single kernels take: dev/bench/attention.cu, dev/bench/kernels.cu
$(O)/shim-bf16$(LOOPS)/bench_%.o: dev/bench/%.cu
	$(call compile,$(SHIM_FLAGS) $(BF16))
$(O)/gpu-bf16$(LOOPS)/bench_%.o: dev/bench/%.cu
	$(call nvcc_compile,$(BF16))

data/tokenize: LIBS := $(DEPS_LIB) -lutf8proc
data/tokenize: $(O)/tokenize.o $(BASE_OBJECTS)
	$(call link,$(OPENMP))
$(O)/tokenize.o: data/tokenize.cpp
	$(call compile,-O3 $(NATIVE) $(OPENMP))
.SECONDARY:  # keep the objects

# ---- tests: see test/README.md
include test/tests.mk

# ---- the rest
deps:
	@bash dev/setup.sh deps
setup:
	@bash dev/setup.sh
demo:
	@$(MAKE) all
	@python3 dev/demo
bench:
	@$(MAKE) DEVICE=cpu
	@$(PYTHON) dev/bench/bert_cpu.py
gpu-check:
	@dev/gpu_check.sh dev/results
predict: data/tokenize
	@bash dev/setup.sh gpu
	@$(MAKE) DEVICE=gpu PRECISION=bf16 ARCH='$(A100_AND_H100)' $(PROGRAMS:%=$(O)/emulated-bf16/%)
	@python3 dev/predict.py --write
# .format holds the two formatters, in the versions that dev/requirements-format.txt pins
.format/done: dev/requirements-format.txt
	@bash dev/setup.sh venv
	@echo "making .format, a virtual environment with the formatters"
	$(Q)python3 -m venv .format && .format/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@
CXX_FILES := git ls-files -z '*.cu' '*.cuh' '*.h' '*.cpp' | xargs -0
SCRIPTS := git ls-files -z Makefile '*.mk' '*.sh' .ci/run '*.yml' | xargs -0
format: .format/done
	@$(CXX_FILES) .format/bin/clang-format -i
	@.format/bin/ruff format -q .
format-check: .format/done
	@LC_ALL=C.UTF-8 python3 test/run.py --each "$(CXX_FILES) .format/bin/clang-format --dry-run --Werror" \
		"$(CXX_FILES) grep -nE '.{121}' && exit 1 || exit 0" "$(SCRIPTS) grep -nE '.{121}' && exit 1 || exit 0" \
		".format/bin/ruff format -q --check ." ".format/bin/ruff check -q ."
clean:
	rm -rf build $(PROGRAMS) data/tokenize
help:
	$(info $(HELP))@:
.PHONY: deps setup demo bench gpu-check predict format format-check clean help

-include $(wildcard $(O)/*.d $(O)/*/*.d)
