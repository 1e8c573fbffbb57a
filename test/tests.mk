# The tests, by what they need; test/README.md says what each one proves. test/run.py runs the commands, adds up what their runners
# count, and prints "N passed, N failed" at the end.
TEST_FLAGS := $(filter-out -O3,$(FAST)) -O2 -fopenmp -DNO_MAIN
MODEL_TESTS := build/test/test_gradients_fp64 build/test/test_fixtures_fp64 build/test/test_fixtures_fp32 build/test/test_fixtures_shim build/test/test_ops build/test/test_classifier \
	build/test/test_gpt_gradients_fp64 build/test/test_gpt_fixtures_fp64 build/test/test_gpt_fixtures_fp32 build/test/test_gpt_fixtures_shim build/test/test_gpt build/test/test_sft_fp64 build/test/test_include_all
# Objects of all rooms lie in build/test/, so a name is used once
ROOMS := base device ops text data train eval models
vpath test_%.cpp $(ROOMS:%=test/%)
vpath test_%.cu $(ROOMS:%=test/%)
UNIT_TESTS := $(patsubst %.cpp,build/test/%,$(notdir $(filter-out test/models/%,$(wildcard $(ROOMS:%=test/%/test_*.cpp)))))
KERNEL_TESTS := build/test/test_kernels build/test/test_flash build/test/test_cublaslt build/test/test_shim
ORDERS := forward reverse random

build/test/main.o: test/main.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) -O1 -c $< -o $@
build/test/test_include_all.o: TEST_FLAGS := -O0 -fopenmp  # that it compiles is the test
build/test/test_%_fp64.o: test_%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(TEST_FLAGS) -DPRECISION_FP64 -c $< -o $@
build/test/test_%_fp32.o: test_%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(TEST_FLAGS) -c $< -o $@
build/test/test_%_shim.o: test_%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) -O2 -march=native -fopenmp -DSHIM -DMANAGED_MEMORY -DNO_MAIN -c $< -o $@
build/test/test_%.o: test_%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(TEST_FLAGS) -c $< -o $@
build/test/%: build/test/%.o build/test/main.o $(BASE_OBJECTS)
	g++ -fopenmp $^ -o $@ $(LIBS)
# CUDA kernels on the shim
build/test/test_%.o: test_%.cu
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) -O2 -march=native -DSHIM -DMANAGED_MEMORY -fopenmp -c $< -o $@
$(KERNEL_TESTS): %: %.o $(BASE_OBJECTS)
	g++ -fopenmp $^ -o $@ $(LIBS)

# under the sanitizers: AddressSanitizer and UBSan for kernels and parsers, ThreadSanitizer for kernels (it has threads of its own, no OpenMP)
ASAN := -O1 -g1 -Wno-unknown-pragmas -fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined
TSAN := -O1 -g1 -Wno-unknown-pragmas -fsanitize=thread
ASAN_TESTS := $(addprefix build/asan/,$(notdir $(KERNEL_TESTS) $(UNIT_TESTS)))
TSAN_TESTS := $(addprefix build/tsan/,$(notdir $(KERNEL_TESTS)))
build/asan/main.o: test/main.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(ASAN) -c $< -o $@
build/asan/%.o: common/base/%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(ASAN) -c $< -o $@
build/asan/test_%.o: test_%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(ASAN) -c $< -o $@
build/asan/test_%.o: test_%.cu
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) $(ASAN) -DSHIM -DMANAGED_MEMORY -c $< -o $@
$(addprefix build/asan/,$(notdir $(UNIT_TESTS))): %: %.o build/asan/main.o $(BASE_OBJECTS:build/base/%=build/asan/%)
	g++ $(ASAN) $^ -o $@ $(LIBS)
$(addprefix build/asan/,$(notdir $(KERNEL_TESTS))): %: %.o $(BASE_OBJECTS:build/base/%=build/asan/%)
	g++ $(ASAN) $^ -o $@ $(LIBS)
build/tsan/test_%.o: test_%.cu
	@mkdir -p $(@D)
	g++ -x c++ $(CXXFLAGS) $(TSAN) -DSHIM -DMANAGED_MEMORY -c $< -o $@
build/tsan/%.o: common/base/%.cpp
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) $(TSAN) -c $< -o $@
$(TSAN_TESTS): %: %.o $(BASE_OBJECTS:build/base/%=build/tsan/%)
	g++ $(TSAN) $^ -o $@ $(LIBS)

TEST_PROGRAMS := build/cpu-fp32/train_bert build/cpu-fp64/train_bert build/shim-fp32/train_bert build/cpu-fp32/finetune_cls build/shim-fp32/finetune_cls \
	build/cpu-fp32/train_gpt build/shim-fp32/train_gpt build/cpu-fp32/sft build/shim-fp32/sft data/tokenize $(PROGRAMS:%=build/shim-bf16/%) build/shim-bf16/bench_attention build/shim-bf16/bench_kernels
tests: $(UNIT_TESTS) $(MODEL_TESTS) $(KERNEL_TESTS) $(TEST_PROGRAMS)
# programs of another device or precision than this make's: by a make of their own
define other_build
ifneq ($(PAIR),$(1)-$(2))
$(addprefix build/$(1)-$(2)/,$(PROGRAMS)): $(BASE_OBJECTS) FORCE
	@$$(MAKE) DEVICE=$(1) PRECISION=$(2) $$@
endif
endef
$(eval $(call other_build,cpu,fp32))
$(eval $(call other_build,cpu,fp64))
$(eval $(call other_build,shim,fp32))
$(eval $(call other_build,shim,bf16))

test: setup-quiet
	@$(MAKE) tests
	python3 test/run.py $(UNIT_TESTS) $(MODEL_TESTS) build/test/test_shim build/test/test_cublaslt $(foreach o,$(ORDERS),"SHIM_ORDER=$(o) build/test/test_kernels" "SHIM_ORDER=$(o) build/test/test_flash") \
		$(patsubst %,"python3 %",$(wildcard test/programs/test_*.py test/scripts/test_*.py))
# the programs' tests once more, of the programs that a GPU would run: its kernels, and its memory apart from the host's
SHIM_PROGRAMS := TRAIN_BERT=build/shim-fp32/train_bert FINETUNE_CLS=build/shim-fp32/finetune_cls TRAIN_GPT=build/shim-fp32/train_gpt SFT=build/shim-fp32/sft
test-shim: setup-quiet
	@$(MAKE) $(TEST_PROGRAMS)
	python3 test/run.py $(foreach t,$(PROGRAMS),"$(SHIM_PROGRAMS) python3 test/programs/test_$(t).py")
test-asan: setup-quiet
	@$(MAKE) $(ASAN_TESTS)
	python3 test/run.py $(foreach t,$(ASAN_TESTS),"ASAN_OPTIONS=detect_leaks=0 TEST_SMALL=1 $(t)")
test-tsan: setup-quiet
	@$(MAKE) $(TSAN_TESTS)
	python3 test/run.py build/tsan/test_shim "TEST_SMALL=1 build/tsan/test_cublaslt" $(foreach o,$(ORDERS),"SHIM_ORDER=$(o) TEST_SMALL=1 build/tsan/test_kernels" "SHIM_ORDER=$(o) TEST_SMALL=1 build/tsan/test_flash")

# against PyTorch and transformers, of which users need neither; in a virtual environment of the project's own, or PYTHON=...
PYTHON ?= .venv/bin/python
.venv/done: dev/requirements.txt
	@bash dev/setup.sh hf
	python3 -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check $$(grep '^torch==' dev/requirements.txt)
	.venv/bin/python -m pip install -q --disable-pip-version-check -r dev/requirements.txt
	@touch $@
test-hf: setup-quiet $(if $(filter .venv/bin/python,$(PYTHON)),.venv/done)
	@$(MAKE) $(TEST_PROGRAMS) build/test/test_rouge
	python3 test/run.py $(patsubst %,"$(PYTHON) %",$(wildcard test/hf/test_*.py))

# compiles everything for the GPU; runs the kernel tests where there is one
build/gpu-fp32/test_kernels build/gpu-fp32/test_flash: build/gpu-fp32/%: %.cu $(BASE_OBJECTS)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) $< $(BASE_OBJECTS) -o $@ $(LIBS) $(GPU_LIBS)
# whole models beside PyTorch's numbers: the tests read and write device memory from the host as well, so it is managed; run with CUDA_LAUNCH_BLOCKING=1
build/gpu-fp32/test_fixtures build/gpu-fp32/test_gpt_fixtures: build/gpu-fp32/%: %.cpp build/test/main.o $(BASE_OBJECTS)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -DNO_MAIN -DMANAGED_MEMORY -x cu -c $< -o $@.o
	$(NVCC) $(ARCH) $@.o build/test/main.o $(BASE_OBJECTS) -o $@ $(LIBS) $(GPU_LIBS)
test-gpu:
	@bash dev/setup.sh gpu
	@$(MAKE) DEVICE=gpu PRECISION=bf16 test-gpu-build
test-gpu-build:
ifeq ($(and $(NVCC),$(CUBLAS_INC)),)
	@echo "test-gpu: SKIPPED: $(if $(NVCC),nvcc is here but no cuBLAS,there is no nvcc on this machine)"; echo "0 passed, 0 failed"
else
	$(if $(HAVE_GPU),,@echo "test-gpu: compiling only: there is no GPU here to run it on")
	python3 test/run.py --each $(foreach p,$(PROGRAMS),"$(MAKE) DEVICE=gpu PRECISION=bf16 build/gpu-bf16/$(p)" "$(MAKE) DEVICE=gpu PRECISION=fp32 build/gpu-fp32/$(p)") \
		$(foreach t,test_kernels test_flash test_fixtures test_gpt_fixtures,"$(MAKE) DEVICE=gpu PRECISION=fp32 build/gpu-fp32/$(t)") \
		$(foreach b,bench_attention bench_kernels,"$(MAKE) DEVICE=gpu PRECISION=bf16 build/gpu-bf16/$(b)") \
		"python3 dev/ptxas.py" $(if $(HAVE_GPU),build/gpu-fp32/test_kernels build/gpu-fp32/test_flash)
endif

setup-quiet:
	@bash dev/setup.sh > build-setup.log 2>&1 || { cat build-setup.log; rm -f build-setup.log; exit 1; }; rm -f build-setup.log
FORCE:
.PHONY: FORCE test tests test-shim test-asan test-tsan test-hf test-gpu test-gpu-build setup-quiet
