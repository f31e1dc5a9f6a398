# make demo    install into .venv, tune a prompt on the built-in backbone
# make test    install into .venv, check style and types, run every test
# make parity  the tests against PyTorch (transformers, peft) and t5, in .venv-parity
# make wheel   dist/*.whl
# make backbones  pre-trains the built-in backbone again (about 40 minutes, on one core)
# PYTHON=… chooses the interpreter (3.11, 3.12 or 3.13), EXTRAS=test,cuda what is installed.

SUPPORTED := import sys, ensurepip, venv; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
METADATA := setup.py pyproject.toml constraints.txt

.PHONY: demo test lint types parity wheel backbones clean

demo: .venv/installed
	.venv/bin/python -m prompt_tuning_jax.demo

test: lint types
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .

# mypy sees the package as an installed wheel has it: with tasks/ and gin_configs/ inside.
types: .venv/installed
	rm -rf .types && mkdir -p .types/prompt_tuning_jax
	ln -s $(CURDIR)/prompt_tuning_jax/* $(CURDIR)/tasks $(CURDIR)/gin_configs .types/prompt_tuning_jax
	cd .types && ../.venv/bin/mypy --config-file ../pyproject.toml -p prompt_tuning_jax

parity: .venv-parity/installed
	.venv-parity/bin/python -m pytest tests/parity

wheel: .venv/installed
	rm -rf build
	.venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist .

# A first lesson from random values, span corruption, LM adaptation, the result into the package.
PRETRAIN := .venv/bin/python -m prompt_tuning_jax.train --gin_file=models/demo.gin
CONVERT := .venv/bin/python -m prompt_tuning_jax.convert
backbones: .venv/installed
	rm -rf build/backbone && mkdir -p build/backbone
	.venv/bin/python -m prompt_tuning_jax.tasks.demo.vocabulary build/backbone/sentencepiece.model
	$(PRETRAIN) --gin_file=runs/pretrain_demo_lists.gin \
		--gin.VOCABULARY_FILE=build/backbone/sentencepiece.model \
		--gin.MODEL_DIR=build/backbone/lists_run
	$(CONVERT) --artifact=build/backbone/lists_run/artifact --output=build/backbone/lists
	$(PRETRAIN) --gin_file=runs/pretrain_demo_salient_spans.gin \
		--gin.INITIAL_CHECKPOINT_PATH=build/backbone/lists --gin.MODEL_DIR=build/backbone/spans_run
	$(CONVERT) --artifact=build/backbone/spans_run/artifact --output=build/backbone/spans
	$(PRETRAIN) --gin_file=runs/pretrain_demo_prefix_lm.gin \
		--gin.INITIAL_CHECKPOINT_PATH=build/backbone/spans --gin.MODEL_DIR=build/backbone/lm_run
	$(CONVERT) --artifact=build/backbone/lm_run/artifact --output=prompt_tuning_jax/builtin/demo

clean:
	rm -rf .venv .venv-parity .types build dist *.egg-info

.venv/installed: EXTRAS := test,notebooks
.venv-parity/installed: EXTRAS := parity
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
