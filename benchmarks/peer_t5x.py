"""T5X + flaxformer + google-research/prompt-tuning at `peer_work.py`'s work; `peers.py` runs it.

From checkouts, under our jax and flax: their own gin file of T5 1.1 small with a prompt builds
model and optimizer, T5X's `train_with_lr` is the step. What they import and do not use for this is
stood in for by empty modules, where it is not installed.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import time
import types

import peer_work

# imported by T5X and flaxformer, unused here: other data pipelines, quantisation, checkpoints, …
UNUSED = ("airio", "aqt", "chex", "fiddle", "jestimator", "tensorboard")
GIN_FILE = "prompt_tuning/configs/models/t5_1_1_small_prompt.gin"
# their default of dropout in a fine-tuning run, our dtype
SETTINGS = ("DROPOUT_RATE = 0.1", "ACTIVATION_DTYPE = 'float32'", "VOCABULARY = None")


class _Anything(type):
    """A class whose attributes are classes that anything makes."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {"__init__": lambda self, *given, **named: None})


class _Unused(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module under every name below `names`."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        anything = _Anything(spec.name, (), {})
        module.__getattr__ = functools.partial(getattr, anything)  # type: ignore[method-assign]
        return module

    def exec_module(self, module):
        pass


def model_of(checkouts: list[str]):
    """Their model, built by their gin file."""
    sys.path[:0] = checkouts
    absent = [name for name in (*UNUSED, "flax.optim") if importlib.util.find_spec(name) is None]
    sys.meta_path.append(_Unused(absent))
    if importlib.util.find_spec("cached_property") is None:
        decorator = types.ModuleType("cached_property")
        decorator.cached_property = functools.cached_property  # type: ignore[attr-defined]
        sys.modules["cached_property"] = decorator
    if "flax.optim" in absent:  # gone since flax 0.6
        import flax

        flax.optim = _Anything("flax.optim", (), {})
        sys.modules["flax.optim"] = flax.optim
    import gin

    for checkout in checkouts:
        gin.add_config_file_search_path(checkout)
    gin.parse_config_files_and_bindings([GIN_FILE], SETTINGS)
    return gin.query_parameter("%MODEL").scoped_configurable_fn()


def main(work: peer_work.Work, checkouts: list[str]):
    model = model_of(checkouts)
    import jax
    import jax.numpy as jnp
    from t5x import decoding, train_state, trainer

    inputs, targets = (jnp.asarray(a, jnp.int32) for a in work.tokens())
    batch = {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": jnp.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": jnp.ones_like(targets),
    }
    shapes = {name: a.shape for name, a in batch.items()}
    start = jax.jit(lambda rng: model.get_initial_variables(rng, shapes))
    variables = start(jax.random.PRNGKey(0))
    if work.what == "train":
        state = train_state.FlaxOptimTrainState.create(model.optimizer_def, variables)
        step = functools.partial(trainer.train_with_lr, model=model, num_microbatches=None)
        given = batch, jnp.float32(0.3), jax.random.PRNGKey(2)
        jax.block_until_ready(state)
        ready = peer_work.age()
        before = time.perf_counter()
        step = jax.jit(step, donate_argnums=0).lower(state, *given).compile()
        compiled = time.perf_counter() - before

        def call():
            nonlocal state
            state, metrics = step(state, *given)
            jax.block_until_ready((state, metrics))

        times = peer_work.seconds(call, work.repeats)
        peer_work.report(train=times, compile_s=compiled, start_s=ready)
        return
    params = variables["params"]
    if work.what == "evaluate":
        call = jax.jit(lambda params: model.eval_fn(params, batch)[0])
    else:
        model._decode_fn = decoding.temperature_sample
        # greedy, and no token ends a sequence
        exact = {"eos_id": -1, "temperature": 0.0}
        predict = functools.partial(model.predict_batch_with_aux, decoder_params=exact)
        call = jax.jit(lambda params: predict(params, batch)[0])
    times = peer_work.seconds(lambda: call(params).block_until_ready(), work.repeats)
    peer_work.report(**{work.what: times})


if __name__ == "__main__":
    parser = peer_work.arguments()
    for name in ("t5x", "flaxformer", "prompt_tuning"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    main(peer_work.work_of(given), [given.t5x, given.flaxformer, given.prompt_tuning])
