# The tests, by what they need; test/README.md says what each one proves. test/run.py runs the commands, adds up what
# their runners count, and prints "N passed, N failed" at the end.
# -O1 compiles models in two thirds of the time, -O1 and smaller assertions the units in half. Programs are tested as
# users build them, -O3. Kernels are -O2: they run in three orders.
UNIT_FLAGS := -O1 -march=native -fopenmp -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS
TEST_FLAGS := $(filter-out -O3,$(FAST)) -O1 -fopenmp
KERNEL_FLAGS := -O2 -march=native -DSHIM -DMANAGED_MEMORY -fopenmp
MODEL_TESTS := $(addprefix build/test/test_,gradients_fp64 fixtures_fp64 fixtures_fp32 fixtures_shim ops classifier \
	gpt_gradients_fp64 gpt_fixtures_fp64 gpt_fixtures_fp32 gpt_fixtures_shim gpt sft_fp64 include_all)
# Objects of all rooms lie in build/test/, so a name is used once
ROOMS := base device ops text data train eval models
vpath test_%.cpp $(ROOMS:%=test/%)
vpath test_%.cu $(ROOMS:%=test/%)
UNIT_TESTS := $(filter-out test/models/%,$(wildcard $(ROOMS:%=test/%/test_*.cpp)))
UNIT_TESTS := $(patsubst %.cpp,build/test/%,$(notdir $(UNIT_TESTS)))
KERNEL_TESTS := $(addprefix build/test/,test_kernels test_flash test_cublaslt test_shim)
ORDERS := forward reverse random

build/test/main.o: test/main.cpp
	$(call compile,-O1)
build/test/test_include_all.o: TEST_FLAGS := -O0 -fopenmp  # that it compiles is the test
build/test/test_%_fp64.o: test_%.cpp
	$(call compile,$(TEST_FLAGS) $(FP64))
build/test/test_%_fp32.o: test_%.cpp
	$(call compile,$(TEST_FLAGS))
build/test/test_%_shim.o: test_%.cpp
	$(call compile,$(KERNEL_FLAGS))
build/test/test_%.o: test_%.cpp
	$(call compile,$(TEST_FLAGS))
$(UNIT_TESTS:%=%.o): build/test/%.o: %.cpp
	$(call compile,$(UNIT_FLAGS))
build/test/%: build/test/%.o build/test/main.o $(BASE_OBJECTS)
	$(call link,-fopenmp)
# CUDA kernels on the shim
build/test/test_%.o: test_%.cu
	$(call compile,$(KERNEL_FLAGS))
$(KERNEL_TESTS): %: %.o $(BASE_OBJECTS)
	$(call link,-fopenmp)

# under the sanitizers: AddressSanitizer and UBSan for kernels and parsers, ThreadSanitizer for kernels (the shim then
# starts threads of its own, no OpenMP). Compiling takes longer than running: hence -Og, and -O1 where orders are three.
ASAN := -Og -g1 -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS -Wno-unknown-pragmas \
	-fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined
TSAN := -O1 -g1 -Wno-unknown-pragmas -fsanitize=thread
ASAN_KERNEL_TESTS := $(KERNEL_TESTS:build/test/%=build/asan/%)
ASAN_UNIT_TESTS := $(UNIT_TESTS:build/test/%=build/asan/%)
ASAN_TESTS := $(ASAN_KERNEL_TESTS) $(ASAN_UNIT_TESTS)
TSAN_TESTS := $(KERNEL_TESTS:build/test/%=build/tsan/%)
build/asan/main.o: test/main.cpp
	$(call compile,$(ASAN))
build/asan/%.o: common/base/%.cpp
	$(call compile,$(ASAN))
build/tsan/%.o: common/base/%.cpp
	$(call compile,$(TSAN))
build/asan/test_%.o: test_%.cpp
	$(call compile,$(ASAN))
build/asan/test_%.o: test_%.cu
	$(call compile,$(ASAN) -DSHIM -DMANAGED_MEMORY)
build/tsan/test_%.o: test_%.cu
	$(call compile,$(TSAN) -DSHIM -DMANAGED_MEMORY)
$(ASAN_UNIT_TESTS): %: %.o build/asan/main.o $(BASE_OBJECTS:build/%=build/asan/%)
	$(call link,$(ASAN))
$(ASAN_KERNEL_TESTS): %: %.o $(BASE_OBJECTS:build/%=build/asan/%)
	$(call link,$(ASAN))
$(TSAN_TESTS): %: %.o $(BASE_OBJECTS:build/%=build/tsan/%)
	$(call link,$(TSAN))

# what the tests of programs run: each program as a user builds it, in double, and as a GPU would run it
TEST_PROGRAMS := data/tokenize $(addprefix build/cpu-fp32$(LOOPS)/,$(PROGRAMS)) build/cpu-fp64$(LOOPS)/train_bert \
	$(addprefix build/shim-fp32$(LOOPS)/,$(PROGRAMS)) \
	$(addprefix build/shim-bf16$(LOOPS)/,$(PROGRAMS) bench_attention bench_kernels)
tests: $(UNIT_TESTS) $(MODEL_TESTS) $(KERNEL_TESTS) $(TEST_PROGRAMS)

# the longest first
PYTHON_TESTS := $(sort $(wildcard test/programs/test_*.py test/scripts/test_*.py))
in_every_order = $(foreach o,$(ORDERS),"SHIM_ORDER=$(o) $(1)")
test: setup-quiet
	@$(MAKE) tests
	@python3 test/run.py $(PYTHON_TESTS:%="python3 %") \
		$(call in_every_order,build/test/test_kernels) $(call in_every_order,build/test/test_flash) \
		build/test/test_shim build/test/test_cublaslt $(MODEL_TESTS) $(UNIT_TESTS)
# the programs' tests once more, of the programs that a GPU would run: its kernels, and its memory apart from the host's
SHIM_PROGRAMS := TRAIN_BERT=build/shim-fp32/train_bert FINETUNE_CLS=build/shim-fp32/finetune_cls \
	TRAIN_GPT=build/shim-fp32/train_gpt SFT=build/shim-fp32/sft
test-shim: setup-quiet
	@$(MAKE) $(TEST_PROGRAMS)
	@python3 test/run.py $(foreach t,$(PROGRAMS),"$(SHIM_PROGRAMS) python3 test/programs/test_$(t).py")
test-asan: setup-quiet
	@$(MAKE) $(ASAN_TESTS)
	@python3 test/run.py $(foreach t,$(ASAN_TESTS),"ASAN_OPTIONS=detect_leaks=0 TEST_SMALL=1 $(t)")
test-tsan: setup-quiet
	@$(MAKE) $(TSAN_TESTS)
	@python3 test/run.py $(call in_every_order,TEST_SMALL=1 build/tsan/test_kernels) \
		$(call in_every_order,TEST_SMALL=1 build/tsan/test_flash) build/tsan/test_shim "TEST_SMALL=1 build/tsan/test_cublaslt"

# against PyTorch and transformers, of which users need neither; in a virtual environment of the project's own, or
# PYTHON=...
PYTHON ?= .venv/bin/python
.venv/done: dev/requirements.txt
	@bash dev/setup.sh venv
	@echo "making .venv, a virtual environment with PyTorch and transformers"
	$(Q)python3 -m venv .venv
	$(Q).venv/bin/python -m pip install -q --disable-pip-version-check -r dev/requirements.txt
	@touch $@
test-hf: setup-quiet $(if $(filter .venv/bin/python,$(PYTHON)),.venv/done)
	@$(MAKE) $(TEST_PROGRAMS) build/test/test_rouge
	@python3 test/run.py $(patsubst %,"$(PYTHON) %",$(wildcard test/hf/test_*.py))

# compiles everything for the GPU; runs the kernel tests where there is one
build/gpu-fp32/test_%.o: test_%.cu
	$(call nvcc_compile)
# whole models beside PyTorch's numbers: the tests read and write device memory from the host as well, so it is managed;
# run with CUDA_LAUNCH_BLOCKING=1
build/gpu-fp32/test_%.o: test_%.cpp
	$(call nvcc_compile,-DMANAGED_MEMORY)
build/gpu-fp32/test_fixtures build/gpu-fp32/test_gpt_fixtures: build/test/main.o
test-gpu:
	@bash dev/setup.sh gpu
	@$(MAKE) DEVICE=gpu PRECISION=bf16 test-gpu-build
GPU_TESTS := $(addprefix build/gpu-fp32/,test_kernels test_flash)
GPU_TARGETS := $(addprefix build/gpu-bf16/,$(PROGRAMS) bench_attention bench_kernels) \
	$(addprefix build/gpu-fp32/,$(PROGRAMS)) $(GPU_TESTS) $(addprefix build/gpu-fp32/,test_fixtures test_gpt_fixtures)
test-gpu-build: $(BASE_OBJECTS) build/test/main.o
ifeq ($(and $(NVCC),$(CUBLAS_INC)),)
	@echo "test-gpu: SKIPPED: $(if $(NVCC),nvcc is here but no cuBLAS,there is no nvcc on this machine)"
	@echo "0 passed, 0 failed"
else
	$(if $(HAVE_GPU),,@echo "test-gpu: compiling only: there is no GPU here to run it on")
	@python3 test/run.py --each $(GPU_TARGETS:%="$(MAKE) %") \
		--then "python3 dev/ptxas.py" $(if $(HAVE_GPU),$(GPU_TESTS))
endif

setup-quiet:
	@log=$$(bash dev/setup.sh 2>&1) || { echo "$$log"; exit 1; }
.PHONY: test tests test-shim test-asan test-tsan test-hf test-gpu test-gpu-build setup-quiet
