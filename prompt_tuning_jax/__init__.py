"""Prompt tuning of frozen T5 models in JAX (Lester et al. 2021, arXiv 2104.08691).

`load(artifact, backbone)` returns a `Predictor`, whose `predict(texts)` is what notebooks need.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    # jax takes most of a second to import: only those who predict wait for it
    if name in ("load", "Predictor"):
        from prompt_tuning_jax import predictor

        return getattr(predictor, name)
    raise AttributeError(name)
