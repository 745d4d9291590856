# SPDX-License-Identifier: Apache-2.0
# The front door. CMake builds everything (CMakeLists.txt); this file says which part of it, and checks first
# that the machine has what the part needs.
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
JOBS    ?= $(shell nproc)

# Options of this make must not leak into the one that cmake may start.
CMAKE     := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL cmake
LAUNCHER  := $(if $(shell command -v ccache),-DCMAKE_C_COMPILER_LAUNCHER=ccache)
# ThreadSanitizer of gcc 12 does not start where the kernel randomises addresses more than it expects.
NO_RANDOM := $(shell setarch -R true 2>/dev/null && echo setarch -R)

# $(call cmake_build,folder,options): configures and builds.
cmake_build = mkdir -p $(1) && echo "Building in $(1)/" && \
	{ $(CMAKE) -S . -B $(1) -DCMAKE_INSTALL_PREFIX=$(PREFIX) -DCMAKE_RULE_MESSAGES=OFF $(LAUNCHER) $(2) \
	>$(1)/configure.log 2>&1 || { cat $(1)/configure.log; exit 1; }; } && $(CMAKE) --build $(1) -j $(JOBS)
# Many tests wait half of their time, for ranks that are late on purpose: with one more, no core idles.
TEST_JOBS := $(shell expr $(JOBS) + 1)
# $(call run_tests,folder,options)
run_tests = cd $(1) && ctest -j $(TEST_JOBS) --output-on-failure --no-tests=error $(2)

.NOTPARALLEL:
.PHONY: build demo test test-release test-address test-thread test-long gpu-test bench install docs format lint clean help

build: ## the library, the tutti command and the examples, in build/
	@scripts/require.sh build
	@$(call cmake_build,$(BUILD),-DTUTTI_TESTS=OFF)

# Without kernels for GPUs, which take minutes to compile and which the demo does not use.
demo: ## serves the chat trace with 4 ranks, checks every token, then lets things go wrong on purpose
	@scripts/require.sh build
	@$(call cmake_build,$(BUILD)/demo,-DTUTTI_TESTS=OFF -DTUTTI_CUDA_KERNELS=OFF -DTUTTI_HIP_KERNELS=OFF)
	$(BUILD)/demo/bin/tutti run --ranks 4 --trace traces/chat.jsonl --storm

test: test-release test-address test-thread ## all tests: Release, AddressSanitizer and UBSan, ThreadSanitizer
	@echo "All tests passed: Release, AddressSanitizer and UndefinedBehaviorSanitizer, ThreadSanitizer."

test-release: ## the tests in a Release build, with format, lint and install checks
	@scripts/require.sh test
	@$(call cmake_build,$(BUILD)/test,-DTUTTI_TESTS=ON -DTUTTI_CUDA_ALL_TARGETS=OFF)
	@$(call run_tests,$(BUILD)/test)

test-address: ## the tests with AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/require.sh build
	@$(call cmake_build,$(BUILD)/address,-DTUTTI_TESTS=ON -DTUTTI_SANITIZE=address$(comma)undefined)
	@$(call run_tests,$(BUILD)/address)

test-thread: ## the tests with ThreadSanitizer
	@scripts/require.sh build
	@$(call cmake_build,$(BUILD)/thread,-DTUTTI_TESTS=ON -DTUTTI_SANITIZE=thread)
	@cd $(BUILD)/thread && $(NO_RANDOM) ctest -j $(TEST_JOBS) --output-on-failure --no-tests=error

test-long: ## more seeds, larger counts: about an hour
	@scripts/require.sh test
	@$(call cmake_build,$(BUILD)/long,-DTUTTI_TESTS=ON -DTUTTI_TEST_TIMEOUT_S=7200)
	@export TUTTI_TEST_EFFORT=long; $(call run_tests,$(BUILD)/long,-LE lint)

gpu-test: ## the tests that need GPUs (2, 4 or 8 for all of them); skips, with a reason, what this machine cannot run
	@scripts/require.sh build
	@$(call cmake_build,$(BUILD)/gpu,-DTUTTI_TESTS=ON)
	@cd $(BUILD)/gpu && ctest -L gpu --output-on-failure --no-tests=error

bench: build ## all-reduce beside NCCL where there are GPUs, else beside Open MPI and MPICH
	@scripts/bench.sh $(BUILD)/bin/tutti

install: build ## into PREFIX (/usr/local), below DESTDIR
	@DESTDIR="$(DESTDIR)" $(CMAKE) --install $(BUILD) --prefix $(PREFIX)

docs: build ## writes docs/settings.md from the settings table
	@mkdir -p docs
	@$(BUILD)/bin/tutti info --settings --markdown >docs/settings.md

format: ## clang-format over all C files
	@scripts/require.sh format
	@tests/lint/format.sh fix

lint: ## format, clang-tidy and the house rules alone
	@scripts/require.sh test
	@$(call cmake_build,$(BUILD)/test,-DTUTTI_TESTS=ON -DTUTTI_CUDA_ALL_TARGETS=OFF)
	@$(call run_tests,$(BUILD)/test,-L lint)

clean: ## removes build/
	rm -rf $(BUILD)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

comma := ,
