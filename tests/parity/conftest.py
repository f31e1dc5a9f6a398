"""The parity tests need torch, so `make parity` runs them; offline, on the CPU."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import torch  # noqa: E402

torch.set_num_threads(1)  # the models are tiny
