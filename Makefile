# make demo    install into .venv, tune a prompt on the built-in backbone
# make test    install into .venv, check style and types, run every test
# make parity  the tests against PyTorch (transformers, peft) and t5, and of TPU slices, in .venv-parity
# make wheel   dist/*.whl
# make backbones  pre-trains the built-in backbones again (33, 16 and 13 minutes on a core; -j2: two at a time)
# PYTHON=… chooses the interpreter (3.11, 3.12 or 3.13), EXTRAS=test,cuda what is installed.

SUPPORTED := import sys, ensurepip, venv; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
METADATA := setup.py pyproject.toml constraints.txt

.PHONY: demo test lint types parity wheel backbones clean

demo: .venv/installed
	.venv/bin/python -m prompt_tuning_jax.demo

# A file's tests stay together, for they share what was trained for them; files in their order, for
# those with the fewest tests are not the shortest.
WORKERS := --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test: lint types
	.venv/bin/python -m pytest $(WORKERS)

lint: .venv/installed
	.venv/bin/ruff check .

# mypy sees the package as an installed wheel has it: with tasks/ and gin_configs/ inside.
types: .venv/installed
	rm -rf .types && mkdir -p .types/prompt_tuning_jax
	ln -s $(CURDIR)/prompt_tuning_jax/* $(CURDIR)/tasks $(CURDIR)/gin_configs .types/prompt_tuning_jax
	cd .types && ../.venv/bin/mypy --config-file ../pyproject.toml -p prompt_tuning_jax

# What TPU slices need (libtpu) is compiled here too: `make test` leaves its wheel of 213 MB out.
parity: .venv-parity/installed
	JAX_PLATFORMS=cpu .venv-parity/bin/python -m pytest $(WORKERS) tests/parity tests/test_topology.py

wheel: .venv/installed
	rm -rf build/lib build/bdist.*
	.venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist .

# Each size: a first lesson from random values, span corruption, then LM adaptation or, as what it is
# compared with, as much span corruption more. `make -j2 backbones` works on two sizes at a time.
BACKBONES := demo demo_small demo_tiny
VOCABULARY := build/backbones/sentencepiece.model
PRETRAIN = .venv/bin/python -m prompt_tuning_jax.train --gin_file=models/$*.gin
CONVERT := .venv/bin/python -m prompt_tuning_jax.convert
BUILT_IN := prompt_tuning_jax/builtin
backbones: $(BACKBONES:%=backbones-%)

$(VOCABULARY): | .venv/installed
	mkdir -p $(@D)
	.venv/bin/python -m prompt_tuning_jax.tasks.demo.vocabulary $@

build/backbones/%/lists: $(VOCABULARY)
	$(PRETRAIN) --gin_file=runs/pretrain_demo_lists.gin --gin.VOCABULARY_FILE=$(VOCABULARY) \
		--gin.MODEL_DIR=$@_run
	$(CONVERT) --artifact=$@_run/artifact --output=$@

build/backbones/%/spans: build/backbones/%/lists
	$(PRETRAIN) --gin_file=runs/pretrain_demo_salient_spans.gin --gin.INITIAL_CHECKPOINT_PATH=$< \
		--gin.MODEL_DIR=$@_run
	$(CONVERT) --artifact=$@_run/artifact --output=$@

backbones-%: build/backbones/%/spans
	$(PRETRAIN) --gin_file=runs/pretrain_demo_prefix_lm.gin --gin.INITIAL_CHECKPOINT_PATH=$< \
		--gin.MODEL_DIR=$(<D)/lm_run
	$(PRETRAIN) --gin_file=runs/pretrain_demo_more_spans.gin --gin.INITIAL_CHECKPOINT_PATH=$< \
		--gin.MODEL_DIR=$(<D)/more_spans_run
	for made in lm_run/artifact: lm_run/artifacts/100:_lm10 lm_run/artifacts/250:_lm25 \
		lm_run/artifacts/500:_lm50 more_spans_run/artifact:_spans; do \
		$(CONVERT) --artifact=$(<D)/$${made%:*} --dtype=bfloat16 \
			--output=$(BUILT_IN)/$*$${made#*:} || exit 1; done

.PRECIOUS: build/backbones/%/lists build/backbones/%/spans

clean:
	rm -rf .venv .venv-parity .types build dist *.egg-info

.venv/installed: EXTRAS := test,notebooks
.venv-parity/installed: EXTRAS := parity,tpu-topology
# t5 asks for nightly builds of seqio and TFDS, which would take their place: it comes alone.
.venv-parity/installed: ALONE := t5

# A stamp inside each venv: nothing is installed again until the metadata changes.
%/installed: $(METADATA)
	@test -x $*/bin/pip || $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { echo "error: this \
	project needs Python 3.11, 3.12 or 3.13 (tensorflow-text has no wheel for 3.14) and found \
	none: make $(MAKECMDGOALS) PYTHON=/path/to/python3.13" >&2; exit 2; }
	@test -x $*/bin/pip || $(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(if $(ALONE),$*/bin/python -m pip install --quiet --constraint constraints.txt --no-deps $(ALONE))
	@touch $@
