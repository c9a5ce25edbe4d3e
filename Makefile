# What CI and people call. Everything installs what it needs, into .venv, from the package registries.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast test-kube compiled debian check fuzz bench bench-floods docs curves gallery screens proto clean

demo: compiled  ## the main job: three hospitals, real processes, mTLS, real data, a table and a plot
	@$(BIN)/python examples/breast_cancer/demo.py

test: compiled debian  ## all tests; those of a real Kubernetes where one is given (KUBECONFIG) or can be made (root, Debian 12)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@$(BIN)/python tests/trackers/mlflow_server.py
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-fast: compiled  ## an answer in about three minutes: all but whole federations, browsers, Kubernetes and fuzzing
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@$(BIN)/python tests/trackers/mlflow_server.py
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
		-m "not (scenario or kube or browser)" --ignore tests/fuzz --ignore tests/e2e

test-kube: compiled  ## the real Kubernetes alone: on this machine (root on Debian 12), or KUBECONFIG with CONVOY_TEST_IMAGE
	@$(BIN)/python -m pytest -m kube tests/kube

compiled: $(STAMP)  ## bytecode, as pip makes of a wheel: else each process compiles Convoy where PYTHONDONTWRITEBYTECODE is set
	@$(BIN)/python -m compileall -q src

debian:  ## a browser, a PostgreSQL and a Prometheus for the tests that need them; where they cannot be had, those skip and say why
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg --status chromium postgresql prometheus >/dev/null 2>&1 || { \
		echo "installing a browser, a PostgreSQL and a Prometheus for the tests that need them" >&2; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium postgresql prometheus; }; \
	fi >/dev/null

check: $(STAMP)  ## ruff, mypy --strict, import-linter, labels
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/test_house.py

fuzz: $(STAMP)  ## each reader of foreign bytes for SECONDS (60); what breaks one is kept in tests/fuzz/corpus
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@CONVOY_FUZZ_S=$(or $(SECONDS),60) $(BIN)/python -m pytest -q tests/fuzz

bench: compiled  ## the numbers of the design page, each beside its budget and the floor
	@$(BIN)/python -m bench.run

bench-floods: $(STAMP)  ## how much longer the rounds of others take beside each flood
	@$(BIN)/python -m pytest -q -rP tests/attacks/test_floods.py tests/pods/test_floods.py | \
		sed -n -e 's/^_* \(test_beside.*[^_ ]\) _*$$/\1/p' -e 's/.*\(beside the flood.*its usual time\)$$/\1/p' -e '$$p'

docs: $(STAMP)  ## write the reference pages anew from the code
	@$(BIN)/python docs/reference.py

curves: $(STAMP)  ## simulate a job with each workflow, and draw the picture for its reference page
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@$(BIN)/python docs/curves.py

gallery: $(STAMP)  ## run every example in the simulator; draw its picture and write the index of examples
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@$(BIN)/python docs/gallery.py

screens: $(STAMP) debian  ## take pictures of each page of the dashboard, in light, in dark and on a phone
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	@$(BIN)/python docs/screens.py

proto: $(STAMP)  ## generate the messages from wire/convoy.proto
	@cd src && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. convoy/wire/convoy.proto convoy/wire/pods.proto

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(STAMP): pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
