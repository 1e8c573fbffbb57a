# make              builds everything for this machine: the GPU if nvcc and a GPU are there, else the CPU
# make demo         learns a small written world, sentiment from 100 labels, then instructions: five minutes
# make test         the tests that need nothing but a compiler                make help   all the rest
#
#   DEVICE=cpu      loops and a BLAS, OpenMP                PRECISION=fp32 (default) or fp64
#   DEVICE=gpu      the CUDA kernels, by nvcc               PRECISION=fp32 or bf16
#   DEVICE=shim     the CUDA kernels, run on the CPU        PRECISION=fp32 or bf16   (slow: for tests)
#
# Objects lie under build/DEVICE-PRECISION/, so switching back and forth rebuilds nothing.
SHELL = /bin/bash
MAKEFLAGS += --no-print-directory
# A job for each core, if there are 1.5 GB of memory for each (the largest files take 0.5 by g++, by nvcc 0.6 for each architecture); make -j4 means 4.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell awk -v n=$$(nproc) '/^MemAvailable/ { m = int($$2 / 1500000) } END { print m < 1 ? 1 : m < n ? m : n }' /proc/meminfo)
endif

# ---- what this machine has
CUDA_HOME := $(firstword $(wildcard /usr/local/cuda) $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc 2>/dev/null))))
NVCC := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
HAVE_GPU := $(if $(NVCC),$(shell nvidia-smi -L 2>/dev/null | grep -c ^GPU | grep -v ^0))
DEVICE ?= $(if $(HAVE_GPU),gpu,cpu)
BLAS ?= openblas
ifeq ($(filter openblas loops,$(BLAS)),)
$(error BLAS=$(BLAS): expected openblas or loops)
endif
PRECISION ?= $(if $(filter gpu,$(DEVICE)),bf16,fp32)
PAIR := $(DEVICE)-$(PRECISION)
ifeq ($(filter $(PAIR),cpu-fp32 cpu-fp64 gpu-fp32 gpu-bf16 shim-fp32 shim-bf16),)
$(error DEVICE=$(DEVICE) PRECISION=$(PRECISION) makes no sense: cpu has fp32 and fp64, gpu and shim have fp32 and bf16)
endif
B := build/$(PAIR)$(if $(filter loops,$(BLAS)),-loops)

ifeq ($(DEVICE),gpu)
# cuBLASLt: of the toolkit, of .deps (make deps), or of the nvidia-cublas wheel
CUBLAS_INC := $(firstword $(dir $(wildcard $(CUDA_HOME)/include/cublasLt.h $(CUDA_HOME)/targets/*/include/cublasLt.h .deps/nvidia/*/include/cublasLt.h)) \
	$(if $(NVCC),$(shell python3 -c 'import glob, os, site; print(*[os.path.dirname(p) + "/" for d in site.getsitepackages() for p in glob.glob(d + "/nvidia/*/include/cublasLt.h")][:1])' 2>/dev/null)))
endif

# ---- flags
# Never -Ofast or -ffinite-math-only: the code uses infinities and tests for NaN.
WARN := -Wall -Wextra
FAST := -O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math
DEPS_INC := $(if $(wildcard .deps/include),-isystem .deps/include)
DEPS_LIB := $(if $(wildcard .deps/lib),-L.deps/lib -Xlinker -rpath -Xlinker '$$ORIGIN/../../.deps/lib:$$ORIGIN/../.deps/lib')
, := ,
LOOPS := $(if $(filter loops,$(BLAS)),-loops)
BLAS_FLAGS := $(if $(LOOPS),-DBLAS_LOOPS)
BLAS_LIBS := $(if $(LOOPS),,-lopenblas)
PRECISION_FLAG := $(if $(filter bf16,$(PRECISION)),-DPRECISION_BF16)$(if $(filter fp64,$(PRECISION)),-DPRECISION_FP64)
CXXFLAGS := -std=c++17 -I. -MMD -MP $(WARN) $(DEPS_INC) $(BLAS_FLAGS)
LIBS := $(DEPS_LIB) $(BLAS_LIBS) -lutf8proc
# native code if there is a GPU, else code for the A100 (sm_80) and the H100 (sm_90)
ARCH ?= $(if $(HAVE_GPU),-arch=native,-gencode arch=compute_80$(,)code=sm_80 -gencode arch=compute_90$(,)code=[sm_90$(,)compute_90])
NVCCFLAGS := -std=c++17 -O3 --threads 2 -Xcompiler -Wall,-Wextra,-fopenmp,-march=native -I. -MMD -MP $(ARCH) $(DEPS_INC) -isystem $(CUBLAS_INC) $(BLAS_FLAGS)
# where it really is: in a toolkit include/ is often a link, and what is beside it is not beside the place that the link is in
CUBLAS_LIB = $(realpath $(firstword $(wildcard $(CUBLAS_INC)../lib*/libcublasLt.so $(CUBLAS_INC)../lib*/libcublasLt.so*)))
GPU_LIBS = -L$(dir $(CUBLAS_LIB)) -Xlinker -rpath$(,)$(patsubst %/,%,$(dir $(CUBLAS_LIB))) -l:$(notdir $(CUBLAS_LIB)) -lgomp

PROGRAMS := train_bert finetune_cls train_gpt sft
all: $(PROGRAMS) data/tokenize
	@echo "built for $(DEVICE), $(PRECISION)$(if $(LOOPS), without a BLAS); ./train_bert is now $(B)/train_bert$(if $(filter cpu,$(DEVICE)),$(if $(NVCC),$(if $(HAVE_GPU),, (nvcc is here but no GPU; make DEVICE=gpu compiles for one)), (no nvcc)))"

# ./train_bert is the last one built
$(PROGRAMS): %: $(B)/%
	@ln -sf $< $@
.PHONY: all $(PROGRAMS)

# ---- compiling
build/files.o: common/base/files.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) -O2 -c $< -o $@
build/cpu-$(PRECISION)$(LOOPS)/%.o: %.cu
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) $(FAST) $(PRECISION_FLAG) -fopenmp -c $< -o $@
build/shim-$(PRECISION)$(LOOPS)/%.o: %.cu
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) -O2 -march=native -DSHIM $(PRECISION_FLAG) -fopenmp -c $< -o $@
build/gpu-$(PRECISION)$(LOOPS)/%.o: %.cu
	$(if $(NVCC),,$(error DEVICE=gpu needs nvcc, and there is none: install the CUDA toolkit, or build with DEVICE=cpu))
	$(if $(CUBLAS_INC),,$(error DEVICE=gpu needs cuBLAS, and there is no cublasLt.h in $(CUDA_HOME): make deps gets it from the nvidia-cublas wheel))
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) $(PRECISION_FLAG) -c $< -o $@

build/cpu-$(PRECISION)$(LOOPS)/%: build/cpu-$(PRECISION)$(LOOPS)/%.o build/files.o
	g++ -fopenmp $^ -o $@ $(LIBS)
build/shim-$(PRECISION)$(LOOPS)/%: build/shim-$(PRECISION)$(LOOPS)/%.o build/files.o
	g++ -fopenmp $^ -o $@ $(LIBS)
build/gpu-$(PRECISION)$(LOOPS)/%: build/gpu-$(PRECISION)$(LOOPS)/%.o build/files.o
	$(NVCC) $(ARCH) $^ -o $@ $(LIBS) $(GPU_LIBS)

# how long single kernels take: dev/bench/attention.cu, dev/bench/kernels.cu
build/shim-bf16/bench_%: dev/bench/%.cu build/files.o
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) -O2 -march=native -DSHIM -DPRECISION_BF16 -fopenmp $< -x none build/files.o -o $@ $(LIBS)
build/gpu-bf16/bench_%: dev/bench/%.cu build/files.o
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -DPRECISION_BF16 $< build/files.o -o $@ $(LIBS) $(GPU_LIBS)

data/tokenize: build/tokenize.o build/files.o
	g++ -fopenmp $^ -o $@ $(DEPS_LIB) -lutf8proc
build/tokenize.o: data/tokenize.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) -O3 -march=native -fopenmp -c $< -o $@
.SECONDARY:  # keep the objects

# ---- tests: see test/README.md
include test/tests.mk

# ---- the rest
deps:                 # copies what a build needs into .deps/, for machines without a network
	bash dev/setup.sh deps
setup:                # prints what is missing on this machine, and installs it if it may
	bash dev/setup.sh
demo:                 # the whole story on a world of its own, five minutes
	@$(MAKE) all
	python3 dev/demo
bench:                # CPU training speed beside PyTorch's (needs a Python with torch: PYTHON=...)
	@$(MAKE) DEVICE=cpu
	$(PYTHON) dev/bench/bert_cpu.py
gpu-check:            # proves and measures the GPU build on one GPU, half an hour: dev/gpu_check.sh says how to run it in parts
	dev/gpu_check.sh dev/results
# .format holds the two formatters, in the versions that dev/requirements-format.txt pins
.format/done: dev/requirements-format.txt
	python3 -m venv .format && .format/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@
CXX_FILES = $(shell git ls-files '*.cu' '*.cuh' '*.h' '*.cpp')
format: .format/done          # formats C++, CUDA and Python
	@.format/bin/clang-format -i $(CXX_FILES)
	@.format/bin/ruff format -q .
format-check: .format/done    # says which files are not formatted
	@.format/bin/clang-format --dry-run --Werror $(CXX_FILES)
	@.format/bin/ruff format -q --check .
clean:
	rm -rf build $(PROGRAMS) data/tokenize
help:
	@sed -n '/^# make /,/^$$/p;/^# ----/q' Makefile | grep '^#' | sed 's/^# \{0,1\}//' | head -9
	@echo
	@echo "make test         unit tests, gradients in double, every CUDA kernel on the shim, the programs   (6 to 10 minutes)"
	@echo "make test-shim    the programs' tests once more, with the GPU's kernels and a memory that the host cannot reach"
	@echo "make test-asan    the same kernels and parsers under AddressSanitizer and UBSan"
	@echo "make test-tsan    the kernels under ThreadSanitizer, small shapes"
	@echo "make test-hf      against PyTorch and transformers, in a virtual environment (.venv)"
	@echo "make test-gpu     compiles the GPU build (and runs the kernel tests if there is a GPU)"
	@echo "make gpu-check    proves and measures the GPU build on one GPU, beside PyTorch; writes dev/results/"
	@echo "make setup        what is missing on this machine, installed if it may be; make deps   a copy of it in .deps/"
	@echo "make bench        training speed beside PyTorch's"
	@echo "make clean"
	@echo
	@echo "BLAS=loops        without a BLAS: loops of our own, slower      ARCH=...   nvcc's architecture flags"
.PHONY: deps setup demo bench gpu-check clean help

-include $(wildcard build/*.d build/*/*.d)
