.PHONY: train test test-lowest quick soak lint clean
PYTHON ?= python3
RUN = .venv/bin/python
# PyPI's torch for Linux brings 4 GB of CUDA along. CUDA=1 takes it; pip's own settings come first.
CPU_TORCH = --extra-index-url https://download.pytorch.org/whl/cpu
CUDA ?=

train: .venv/installed
	$(RUN) train.py

quick: .venv/installed
	$(RUN) train.py --quick

test: .venv/installed
	$(RUN) -m pytest -n 2 --dist worksteal

# On the lowest versions that pyproject.toml allows, of what it names itself
test-lowest:
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet uv
	@VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install --quiet --resolution lowest-direct --editable '.[test]'
	.venv-lowest/bin/python -m pytest -n 2 --dist worksteal

soak: .venv/installed
	$(RUN) benchmarks/soak.py

lint: .venv/installed
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed: apt install python3-venv"; exit 1; }
	@where='$(if $(CUDA),,$(CPU_TORCH))'; \
	if $(RUN) -m pip config list | grep -qE 'index-url|find-links'; then where=; fi; \
	$(RUN) -m pip install --quiet $$where --constraint constraints.txt --editable '.[test,view,warp]'
	@touch .venv/installed

clean:
	rm -rf .venv .venv-lowest *.egg-info
