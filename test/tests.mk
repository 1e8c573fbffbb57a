# The tests, by what they need; test/README.md says what each one proves. test/run.py runs the commands, adds up what
# their runners count, and prints "N passed, N failed" at the end.
# -O1 compiles models in two thirds of the time, -O1 and smaller assertions the units in half. Programs are tested as
# users build them, -O3. Kernels are -O2: they run in three orders.
UNIT_FLAGS := -O1 $(NATIVE) -fopenmp -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS
# Tests compare bits: clang would fuse products and sums in vectors, but not in the elements beyond them.
TEST_FLAGS := $(filter-out -O3,$(FAST)) -O1 -fopenmp $(if $(CLANG),-ffp-contract=off -fno-associative-math)
KERNEL_FLAGS := -O2 $(NATIVE) -DSHIM -DMANAGED_MEMORY -fopenmp
MODEL_TESTS := $(addprefix $(O)/test/test_,gradients_fp64 fixtures_fp64 fixtures_fp32 fixtures_shim ops classifier \
	gpt_gradients_fp64 gpt_fixtures_fp64 gpt_fixtures_fp32 gpt_fixtures_shim gpt sft_fp64 include_all)
# Objects of all rooms lie in $(O)/test/, so a name is used once
ROOMS := base device ops text data train eval models
vpath test_%.cpp $(ROOMS:%=test/%)
vpath test_%.cu $(ROOMS:%=test/%)
UNIT_TESTS := $(filter-out test/models/%,$(wildcard $(ROOMS:%=test/%/test_*.cpp)))
UNIT_TESTS := $(patsubst %.cpp,$(O)/test/%,$(notdir $(UNIT_TESTS)))
# products of bf16 by oneDNN, where it is: by each kind of instructions that this processor has
UNIT_TESTS := $(filter-out $(O)/test/test_onednn,$(UNIT_TESTS))
ONEDNN_TESTS := $(if $(ONEDNN),$(foreach isa,AVX512_CORE_AMX AVX512_CORE_BF16 AVX512_CORE AVX2,\
	"ONEDNN_MAX_CPU_ISA=$(isa) $(O)/test/test_onednn"))
CPU_BF16 := $(if $(ONEDNN),$(addprefix $(O)/cpu-bf16/,$(PROGRAMS)))
KERNEL_TESTS := $(addprefix $(O)/test/,test_kernels test_flash test_ptx test_cublaslt test_shim)
ORDERS := forward reverse random

$(O)/test/main.o: test/main.cpp
	$(call compile,-O1)
$(O)/test/test_include_all.o: TEST_FLAGS := -O0 -fopenmp  # that it compiles is the test
$(O)/test/test_%_fp64.o: test_%.cpp
	$(call compile,$(TEST_FLAGS) $(FP64))
$(O)/test/test_%_fp32.o: test_%.cpp
	$(call compile,$(TEST_FLAGS))
$(O)/test/test_%_shim.o: test_%.cpp
	$(call compile,$(KERNEL_FLAGS))
$(O)/test/test_%.o: test_%.cpp
	$(call compile,$(TEST_FLAGS))
$(O)/test/test_onednn.o: UNIT_FLAGS += -DONEDNN
$(O)/test/test_onednn: LIBS += -ldnnl
$(UNIT_TESTS:%=%.o) $(O)/test/test_onednn.o: $(O)/test/%.o: %.cpp
	$(call compile,$(UNIT_FLAGS))
$(O)/test/%: $(O)/test/%.o $(O)/test/main.o $(BASE_OBJECTS)
	$(call link,-fopenmp)
# CUDA kernels on the shim
$(O)/test/test_%.o: test_%.cu
	$(call compile,$(KERNEL_FLAGS))
$(KERNEL_TESTS): %: %.o $(BASE_OBJECTS)
	$(call link,-fopenmp)

# under the sanitizers: AddressSanitizer and UBSan for kernels and parsers, ThreadSanitizer for kernels (the shim then
# starts threads of its own, no OpenMP). Compiling takes longer than running: hence -Og, and -O1 where orders are three.
ASAN := -Og -g1 -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS -Wno-unknown-pragmas \
	-fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined
TSAN := -O1 -g1 -Wno-unknown-pragmas -fsanitize=thread
ASAN_KERNEL_TESTS := $(KERNEL_TESTS:$(O)/test/%=$(O)/asan/%)
ASAN_UNIT_TESTS := $(UNIT_TESTS:$(O)/test/%=$(O)/asan/%)
ASAN_TESTS := $(ASAN_KERNEL_TESTS) $(ASAN_UNIT_TESTS)
TSAN_TESTS := $(KERNEL_TESTS:$(O)/test/%=$(O)/tsan/%)
$(O)/asan/main.o: test/main.cpp
	$(call compile,$(ASAN))
$(O)/asan/%.o: common/base/%.cpp
	$(call compile,$(ASAN))
$(O)/tsan/%.o: common/base/%.cpp
	$(call compile,$(TSAN))
$(O)/asan/test_%.o: test_%.cpp
	$(call compile,$(ASAN))
$(O)/asan/test_%.o: test_%.cu
	$(call compile,$(ASAN) -DSHIM -DMANAGED_MEMORY)
$(O)/tsan/test_%.o: test_%.cu
	$(call compile,$(TSAN) -DSHIM -DMANAGED_MEMORY)
$(ASAN_UNIT_TESTS): %: %.o $(O)/asan/main.o $(BASE_OBJECTS:$(O)/%=$(O)/asan/%)
	$(call link,$(ASAN))
$(ASAN_KERNEL_TESTS): %: %.o $(BASE_OBJECTS:$(O)/%=$(O)/asan/%)
	$(call link,$(ASAN))
$(TSAN_TESTS): %: %.o $(BASE_OBJECTS:$(O)/%=$(O)/tsan/%)
	$(call link,$(TSAN))

# what the tests of programs run: each program as a user builds it, in double, and as a GPU would run it
TEST_PROGRAMS := data/tokenize $(addprefix $(O)/cpu-fp32$(LOOPS)/,$(PROGRAMS)) $(O)/cpu-fp64$(LOOPS)/train_bert \
	$(addprefix $(O)/shim-fp32$(LOOPS)/,$(PROGRAMS)) \
	$(addprefix $(O)/shim-bf16$(LOOPS)/,$(PROGRAMS) bench_attention bench_kernels)
tests: $(UNIT_TESTS) $(MODEL_TESTS) $(KERNEL_TESTS) $(TEST_PROGRAMS) $(CPU_BF16) $(if $(ONEDNN),$(O)/test/test_onednn)

# the longest first
PYTHON_TESTS := $(sort $(wildcard test/programs/test_*.py test/scripts/test_*.py))
in_every_order = $(foreach o,$(ORDERS),"SHIM_ORDER=$(o) $(1)")
test: setup-quiet
	@$(MAKE) tests
	@python3 test/run.py $(PYTHON_TESTS:%="python3 %") \
		$(call in_every_order,$(O)/test/test_kernels) $(call in_every_order,$(O)/test/test_flash) \
		$(O)/test/test_shim $(O)/test/test_cublaslt $(O)/test/test_ptx $(MODEL_TESTS) $(UNIT_TESTS) \
		$(ONEDNN_TESTS)
# the programs' tests once more, of the programs that a GPU would run: its kernels, and its memory apart from the host's
SHIM_PROGRAMS := TRAIN_BERT=$(O)/shim-fp32/train_bert FINETUNE_CLS=$(O)/shim-fp32/finetune_cls \
	TRAIN_GPT=$(O)/shim-fp32/train_gpt SFT=$(O)/shim-fp32/sft
test-shim: setup-quiet
	@$(MAKE) $(TEST_PROGRAMS)
	@python3 test/run.py $(foreach t,$(PROGRAMS),"$(SHIM_PROGRAMS) python3 test/programs/test_$(t).py")
test-asan: setup-quiet
	@$(MAKE) $(ASAN_TESTS)
	@python3 test/run.py $(foreach t,$(ASAN_TESTS),"ASAN_OPTIONS=detect_leaks=0 TEST_SMALL=1 $(t)")
test-tsan: setup-quiet
	@$(MAKE) $(TSAN_TESTS)
	@python3 test/run.py $(call in_every_order,TEST_SMALL=1 $(O)/tsan/test_kernels) \
		$(call in_every_order,TEST_SMALL=1 $(O)/tsan/test_flash) $(O)/tsan/test_shim $(O)/tsan/test_ptx \
		"TEST_SMALL=1 $(O)/tsan/test_cublaslt"

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
	@$(MAKE) $(TEST_PROGRAMS) $(O)/test/test_rouge
	@python3 test/run.py $(patsubst %,"$(PYTHON) %",$(wildcard test/hf/test_*.py))

# Another compiler, another processor: all programs, and the tests that compare numbers (not the kernels: the shim is
# for g++ on x86). RUN starts what was built.
PORTED_TESTS := $(UNIT_TESTS) $(addprefix $(O)/test/test_,gradients_fp64 fixtures_fp32 gpt_gradients_fp64 \
	gpt_fixtures_fp32 ops)
ported-tests: $(PORTED_TESTS) $(PROGRAMS:%=$(O)/cpu-fp32$(LOOPS)/%) $(O)/tokenize.o
	@python3 test/run.py $(PORTED_TESTS:%="TEST_SMALL=1 $(RUN) %")
test-clang:
	@bash dev/setup.sh clang
	@$(MAKE) DEVICE=cpu CXX=clang++ ported-tests
test-aarch64:
	@bash dev/setup.sh aarch64
	@$(MAKE) DEVICE=cpu CXX=aarch64-linux-gnu-g++ BLAS=loops RUN="qemu-aarch64 -L /usr/aarch64-linux-gnu" ported-tests

# every reader of files under libFuzzer, with AddressSanitizer and UBSan
SECONDS ?= 60
FUZZ_FLAGS := -O1 -g1 -Wno-unknown-pragmas -DBLAS_LOOPS -fsanitize=fuzzer,address,undefined -fno-sanitize=alignment \
	-fno-sanitize-recover=undefined
$(O)/fuzz/%.o: common/base/%.cpp
	$(call compile,$(FUZZ_FLAGS))
$(O)/fuzz/fuzz.o: test/fuzz/fuzz.cpp
	$(call compile,$(FUZZ_FLAGS))
$(O)/fuzz/fuzz: LIBS := $(DEPS_LIB) -lutf8proc
$(O)/fuzz/fuzz: $(O)/fuzz/fuzz.o $(BASE_OBJECTS:$(O)/%=$(O)/fuzz/%)
	$(call link,$(FUZZ_FLAGS))
fuzz:
	@bash dev/setup.sh clang
	@$(MAKE) CXX=g++ data/tokenize
	@$(MAKE) CXX=clang++ build/clang++/fuzz/fuzz
	@python3 test/fuzz/run.py --seconds $(SECONDS)

# kills, full disks and power cuts, EVERY so many writes
KILLS ?= 200
EVERY ?= 1
$(O)/test/faults.so: test/torture/faults.cpp
	$(call say,CC)
	$(Q)$(CXX) -std=c++17 -O1 $(WARN) -shared -fPIC $< -o $@ -ldl
torture: setup-quiet
	@$(MAKE) DEVICE=cpu $(O)/test/faults.so data/tokenize $(PROGRAMS:%=$(O)/cpu-fp32$(LOOPS)/%)
	@python3 test/torture/torture.py --kills $(KILLS) --every $(EVERY)

# compiles everything for the GPU; runs its tests there, or in the emulator
$(O)/gpu-fp32/test_%.o: test_%.cu
	$(call nvcc_compile)
# whole models beside PyTorch's numbers: the tests read and write device memory from the host as well, so it is managed;
# run with CUDA_LAUNCH_BLOCKING=1
$(O)/gpu-fp32/test_%.o: test_%.cpp
	$(call nvcc_compile,-DMANAGED_MEMORY)
$(O)/gpu-fp32/test_fixtures $(O)/gpu-fp32/test_gpt_fixtures: $(O)/test/main.o
# The GPU build on a machine without a GPU: the same objects, linked with stand-ins for the CUDA runtime and cuBLASLt,
# which interpret the PTX in them (test/emulator/README.md). They have the names that the real libraries call
# themselves, and the version that the runtime's symbols carry, so that the same executables run on a GPU too.
ifeq ($(DEVICE),gpu)
EMULATOR := $(O)/emulator
CUDART = $(realpath $(firstword $(wildcard $(CUDA_HOME)/lib64/libcudart.so $(CUDA_HOME)/targets/*/lib/libcudart.so)))
soname = $(if $(1),$(shell readelf -d $(1) | sed -n 's/.*soname: \[\(.*\)\]/\1/p'))
CUDART_SO := $(call soname,$(CUDART))
CUBLASLT_SO := $(call soname,$(CUBLAS_LIB))
EMULATOR_LIBS := $(EMULATOR)/$(CUDART_SO) $(EMULATOR)/$(CUBLASLT_SO)
EMULATOR_FLAGS := $(NATIVE) -fno-math-errno -fno-trapping-math -ffp-contract=off -fopenmp -fPIC \
	-isystem $(CUDA_HOME)/include -isystem $(CUBLAS_INC)
INTERPRETER := $(filter-out test_% cublaslt stubs,$(patsubst test/emulator/%.cpp,%,$(wildcard test/emulator/*.cpp)))
$(EMULATOR)/%.o: test/emulator/%.cpp
	$(call compile,-O3 $(EMULATOR_FLAGS))
$(EMULATOR)/cublaslt.o: EMULATOR_FLAGS += $(FAST)
$(EMULATOR)/test_%.o: EMULATOR_FLAGS += -O1 -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS
# its instructions and what it counts, one by one: no CUDA in them
$(EMULATOR)/test_%: $(EMULATOR)/test_%.o $(patsubst %,$(EMULATOR)/%.o,$(filter-out cudart,$(INTERPRETER))) \
	$(O)/test/main.o
	$(call link,-fopenmp)
$(EMULATOR)/test_products: $(EMULATOR)/test_products.o $(O)/test/main.o $(EMULATOR_LIBS)
	$(call say,LD)
	$(Q)$(CXX) $(filter %.o,$^) -o $@ -L$(EMULATOR) -l:$(CUDART_SO) -l:$(CUBLASLT_SO) -Wl,-rpath,'$$ORIGIN'
# STUB(name) for every function of the real library
$(EMULATOR)/%.names: $(CUDART) $(CUBLAS_LIB)
	@mkdir -p $(@D)
	@nm -D --defined-only $(filter %$*,$(CUDART) $(CUBLAS_LIB)) | sed -n 's/.* T \([A-Za-z0-9_]*\)@.*/STUB(\1)/p' > $@
$(EMULATOR)/%-stubs.o: test/emulator/stubs.cpp $(EMULATOR)/%.names
	$(call compile,-O1 -fPIC -DSTUBS='"$(EMULATOR)/$*.names"')
define link_library
$(call say,LD)
@echo '$(notdir $@) { global: *; };' > $@.map
$(Q)$(CXX) -shared -fopenmp -Wl,-soname,$(notdir $@) -Wl,--version-script=$@.map $(filter %.o %.so.%,$^) -o $@
endef
$(EMULATOR)/$(CUDART_SO): $(INTERPRETER:%=$(EMULATOR)/%.o) $(EMULATOR)/$(notdir $(CUDART))-stubs.o
	$(link_library)
$(EMULATOR)/$(CUBLASLT_SO): $(EMULATOR)/cublaslt.o $(EMULATOR)/$(notdir $(CUBLAS_LIB))-stubs.o $(EMULATOR)/$(CUDART_SO)
	$(link_library)
define emulated_link
$(call say,LD)
$(Q)$(NVCC) -cudart none $(ARCH) $(filter %.o,$^) -o $@ $(LIBS) -L$(EMULATOR) -l:$(CUDART_SO) -l:$(CUBLASLT_SO) -lgomp \
	-Xlinker -rpath -Xlinker '$$ORIGIN/../emulator'
endef
$(O)/emulated-fp32/%: $(O)/gpu-fp32/%.o $(BASE_OBJECTS) $(EMULATOR_LIBS)
	$(emulated_link)
$(O)/emulated-bf16/%: $(O)/gpu-bf16/%.o $(BASE_OBJECTS) $(EMULATOR_LIBS)
	$(emulated_link)
$(O)/emulated-fp32/test_fixtures $(O)/emulated-fp32/test_gpt_fixtures: $(O)/test/main.o
$(O)/gpu-fp32/test_cudart.o: test/emulator/test_cudart.cu
	$(call nvcc_compile)
EMULATED := $(addprefix $(O)/emulated-fp32/test_,kernels flash fixtures gpt_fixtures ptx cudart)
EMULATOR_TESTS := $(addprefix $(EMULATOR)/test_,interpreter count products)
EMULATED_PROGRAMS := $(foreach p,bf16 fp32,$(PROGRAMS:%=$(O)/emulated-$(p)/%))
# the longest first; the same for compute_80; what the blocks of a launch do to each other, at small shapes
EMULATED_TESTS := $(patsubst %_fixtures,"CUDA_LAUNCH_BLOCKING=1 %_fixtures",$(EMULATED)) \
	"python3 test/emulator/test_programs.py Bf16" "python3 test/emulator/test_programs.py Fp32" \
	$(foreach t,kernels flash,"EMULATOR_CHECKS=global-races TEST_SMALL=1 $(O)/emulated-fp32/test_$(t)") \
	$(foreach t,flash ptx cudart,"EMULATOR_DEVICE=a100 TEST_SMALL=1 $(O)/emulated-fp32/test_$(t)") \
	"EMULATOR_DEVICE=a100 python3 test/emulator/test_programs.py Bf16.test_train_gpt Bf16.test_train_bert" \
	$(EMULATOR_TESTS)
endif

test-gpu:
	@bash dev/setup.sh gpu
	@$(MAKE) DEVICE=gpu PRECISION=bf16 test-gpu-build
GPU_TESTS := $(addprefix $(O)/gpu-fp32/,test_kernels test_flash test_ptx)
GPU_TARGETS := $(addprefix $(O)/gpu-bf16/,$(PROGRAMS) bench_attention bench_kernels) \
	$(addprefix $(O)/gpu-fp32/,$(PROGRAMS)) $(GPU_TESTS) $(addprefix $(O)/gpu-fp32/,test_fixtures test_gpt_fixtures)
test-gpu-build: $(BASE_OBJECTS) $(O)/test/main.o
ifeq ($(and $(NVCC),$(CUBLAS_INC)),)
	@echo "test-gpu: SKIPPED: $(if $(NVCC),nvcc is here but no cuBLAS,there is no nvcc on this machine)"
	@echo "0 passed, 0 failed"
else
	$(if $(HAVE_GPU),,@echo "test-gpu: there is no GPU here: what nvcc compiles runs in the emulator")
	@python3 test/run.py --each $(GPU_TARGETS:%="$(MAKE) %") \
		--then "python3 dev/ptxas.py" $(if $(HAVE_GPU),$(GPU_TESTS),\
		"$(MAKE) $(EMULATED) $(EMULATED_PROGRAMS) $(EMULATOR_TESTS)" \
		"$(MAKE) DEVICE=cpu PRECISION=fp32 data/tokenize $(PROGRAMS:%=$(O)/cpu-fp32/%)" --then $(EMULATED_TESTS))
endif

setup-quiet:
	@log=$$(bash dev/setup.sh 2>&1) || { echo "$$log"; exit 1; }
.PHONY: test tests test-shim test-asan test-tsan test-hf test-gpu test-gpu-build test-clang test-aarch64 ported-tests \
	fuzz torture setup-quiet
