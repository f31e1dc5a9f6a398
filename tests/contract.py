"""What tests/test_methods.py holds every method to: the methods, and a few steps of each."""

import atexit
import dataclasses
import functools
import importlib
import pkgutil
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import other_methods
import small
import tiny_vocabulary

from prompt_tuning_jax import backbones, methods, sharding, t5, training_step
from prompt_tuning_jax.interop.leaf import Checkpoint
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Chain, Method
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.optimizers import LearningRate, Optax
from prompt_tuning_jax.vocabulary import Vocabulary

# Fields by these names get these values, so that a new file of methods/ needs no edit here.
SMALL = {"length": 5, "rank": 2, "hidden": 8, "width": 8}
STEPS = 6


def _packaged():
    """Every Method that a module of methods/ defines, small, by its name; and the same with each
    choice that is True or False made otherwise."""
    for found in pkgutil.iter_modules(methods.__path__):
        module = importlib.import_module(f"{methods.__name__}.{found.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Method):
                fields = {field.name for field in dataclasses.fields(value)}
                method = value(**{k: v for k, v in SMALL.items() if k in fields})
                yield value.__name__, method
                for field in dataclasses.fields(method):
                    if isinstance(field.default, bool):
                        other = dataclasses.replace(method, **{field.name: not field.default})
                        yield f"{value.__name__} {field.name}={not field.default}", other


PACKAGED = dict(_packaged())
CHAINS = {
    "packaged together": Chain(tuple(PACKAGED.values())),
    "others together": Chain(other_methods.ALL),
}
OTHERS = {type(method).__name__: method for method in other_methods.ALL}
METHODS = PACKAGED | OTHERS | CHAINS


@dataclasses.dataclass(frozen=True)
class Job:
    """A method on a mesh: θ, what of it stays frozen and what was taken, `tuned`'s logical axes,
    where the state lies, the optimizer, and train.py's update compiled."""

    config: t5.T5Config
    method: Method
    partitioner: sharding.Partitioner
    theta: Any
    frozen: Any
    taken: Any
    axes: Any
    places: Any
    tx: Any
    jitted: Any

    def step(self, state, i=0, batch=None):
        """train.py's step `i` on the batch -> (state, report)."""
        with self.partitioner.use():
            batch = self.partitioner.put_batch(batch or small.batch())
            return self.jitted(state, self.frozen, batch, jax.random.key(i))

    def run(self, tuned, steps=STEPS, batch=None):
        """Steps on one batch from `tuned` -> (every state, the loss each step began with)."""
        start = {"tuned": tuned, "opt_state": self.tx.init(tuned), "step": jnp.int32(0)}
        states, losses = [jax.device_put(start, self.places)], []
        for i in range(steps):
            state, report = self.step(states[-1], i, batch)
            states.append(state)
            losses.append(float(report["loss"]))
        return states, losses

    def logits(self, method, exported, **config):
        """Logits of the batch with `method` and what it exported."""
        choice = dataclasses.replace(self.config, **config)
        theta = method.join(self.frozen, exported)
        return small.logits(theta, small.batch(), choice, method, exported)


@functools.cache
def job(method: Method, partitioner: sharding.Partitioner, config=small.CONFIG) -> Job:
    """One a method and mesh, so that its step is compiled once."""
    theta = jax.device_put(small.theta(config), partitioner.theta(config))
    frozen, taken = method.split(theta)
    abstract = method.abstract(config, theta)
    axes = method.axes(config, abstract)
    tx = Optax("adam", LearningRate(base_learning_rate=0.01), {"eps": 1e-3}).build(axes)
    places = {"tuned": partitioner.tuned(axes, abstract), "step": partitioner.replicated}
    slots = jax.eval_shape(tx.init, abstract)
    places["opt_state"] = partitioner.slots(slots, abstract, places["tuned"])
    update = functools.partial(
        training_step.update,
        model=t5.T5(config, method),
        method=method,
        tx=tx,
        loss=Loss(),
        microbatches=1,
    )
    jitted = small.quick_jit(update, out_shardings=(places, None))
    return Job(config, method, partitioner, theta, frozen, taken, axes, places, tx, jitted)


def objective(method: Method, config=small.CONFIG):
    """(tuned, frozen) -> (the batch's mean loss, its gradient of `tuned`), compiled."""
    model, batch = t5.T5(config, method), small.batch()

    def loss(tuned, frozen):
        theta = {"params": method.join(frozen, tuned)}
        rngs = {"dropout": jax.random.key(0)}
        logits = model.apply(theta, method.export(tuned), batch, True, rngs=rngs)
        return Loss().tokens(logits, batch["decoder_target_tokens"])[0].mean()

    return small.quick_jit(jax.value_and_grad(loss))


# of those that leave any of θ frozen, and of one that takes some
OVER_INT8 = {
    name: method
    for name, method in (PACKAGED | CHAINS).items()
    if method.split(t5.abstract_params(small.CONFIG))[0]
} | {"some of θ": Full((".*/query/kernel", "token_embedder/.*"))}


def over_int8(method: Method, partitioner: sharding.Partitioner):
    """θ on a mesh, what of it stays frozen in int8; a `tuned`; and its (loss, gradient) there."""
    places = partitioner.theta(small.CONFIG)
    there = Checkpoint("memory", backbones.leaves_of(small.theta()), small.CONFIG)
    _, taken = method.split(small.theta())
    theta = backbones.read(there, small.CONFIG, places, "int8", taken.__contains__).theta
    start = method.read(vocabulary(), ("True", "False"))
    tuned = small.init(method, small.theta(), start=start, seed=1) | {"theta": taken}
    # off its start, where much of a gradient is zero
    moved = jax.tree.map(
        lambda leaf: leaf + 0.01 * np.cos(np.arange(leaf.size)).reshape(leaf.shape), tuned
    )
    with partitioner.use():
        return theta, moved, objective(method)(moved, method.split(theta)[0])


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run of a method: states[i] is the job's state after i steps."""

    job: Job
    states: list[dict]
    losses: list[float]

    @property
    def method(self) -> Method:
        return self.job.method

    @property
    def start(self):
        return self.states[0]["tuned"]

    @property
    def tuned(self):
        return self.states[-1]["tuned"]

    @property
    def exported(self):
        return self.method.export(self.tuned)


def run(
    method: Method,
    partitioner: sharding.Partitioner,
    config=small.CONFIG,
    steps: int = STEPS,
    batch=None,
) -> Trial:
    """Trains as train.py does, on a mesh, from the method's own start."""
    own = job(method, partitioner, config)
    start = method.read(vocabulary(), ("True", "False"))
    tuned = small.init(method, own.theta, config, start, seed=1)
    return Trial(own, *own.run(tuned | {"theta": own.taken}, steps, batch))


@functools.cache
def trial(name: str) -> Trial:
    """The run of METHODS[name] on one device, run once for all tests."""
    return run(METHODS[name], one_device())


@functools.cache
def one_device():
    return sharding.Partitioner.of({"data": 1})


@functools.cache
def vocabulary() -> Vocabulary:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    words = Vocabulary(tiny_vocabulary.train(Path(folder)), extra_ids=4)
    assert words.vocab_size <= small.CONFIG.vocab_size
    return words


def leaves(tree) -> dict[str, np.ndarray]:
    """A tree's leaves by path."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}
