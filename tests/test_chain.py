"""Chain: every hook of Method is forwarded, in order, each method seeing its own tree alone."""

import dataclasses
import inspect

import contract
import jax
import numpy as np
import pytest
import small

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Chain, Method, Site
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prompt import Prompt

CONFIG = small.CONFIG
# What Chain leaves to Method, which composes it from what Chain forwards, or refuses it.
COMPOSED = {"init_shared", "init_layer", "abstract", "join", "together"}


def public(cls):
    return {n for n, f in vars(cls).items() if inspect.isfunction(f) and not n.startswith("_")}


def test_chain_overrides_every_hook_but_those_that_method_composes():
    assert public(Method) - public(Chain) == COMPOSED


@dataclasses.dataclass(frozen=True)
class Affine(Method):
    """Every hook an affine function with coefficients of its own tree, so that order shows."""

    name: str = ""

    def read(self, vocabulary, label_words):
        return {self.name: (vocabulary, *label_words)}

    def embed(self, shared, site, stream):
        return shared["a"] * stream + shared["b"]

    def project(self, tuned, site, f, x):
        return tuned["a"] * f(x + tuned["b"])

    sublayer = project

    def attend(self, tuned, site, f, q, k, v, extra):
        return tuned["a"] * f(q + tuned["b"], k, v, (*extra, self.name))

    def side_start(self, shared, site, x, below):
        return shared["a"] * x + (shared["b"] if below is None else below)

    def side(self, tuned, site, x, side):
        return tuned["a"] * x + tuned["b"] * side

    def head(self, shared, site, x, side):
        return shared["a"] * x + shared["b"] * side

    def export(self, tuned):
        return {part: {"a": tree["a"] + 1} for part, tree in tuned.items()}

    def exported(self):
        return Affine(self.name + "'")

    def constrain(self, tuned):
        return {part: jax.tree.map(lambda leaf: -leaf, tree) for part, tree in tuned.items()}


FIRST, SECOND = {"a": 2.0, "b": 3.0}, {"a": 5.0, "b": 7.0}
CHAIN, TREE = Chain((Affine("m"), Affine("n"))), {"0": FIRST, "1": SECOND}
SITE = Site("encoder", "self", "query")


def test_later_methods_wrap_earlier_ones():
    # n(m(f)): 5 * m(x + 7), m(y) = 2 * f(y + 3), f(z) = z * z
    assert CHAIN.project(TREE, SITE, lambda z: z * z, 1.0) == 5 * 2 * (1 + 7 + 3) ** 2
    assert CHAIN.sublayer(TREE, SITE, lambda z: z * z, 1.0) == 5 * 2 * (1 + 7 + 3) ** 2
    seen = []

    def f(q, k, v, extra):
        seen.append((q, k, v, extra))
        return q

    assert CHAIN.attend(TREE, SITE, f, 1.0, 20.0, 30.0, ("x",)) == 5 * 2 * (1 + 7 + 3)
    assert seen == [(1 + 7 + 3, 20.0, 30.0, ("x", "n", "m"))]
    # an embedded input goes through the methods in turn
    assert CHAIN.embed(TREE, SITE, 1.0) == 5 * (2 * 1 + 3) + 7


def test_each_method_has_a_side_stream_of_its_own():
    foot = CHAIN.side_start(TREE, SITE, 1.0, None)
    assert foot == (2 * 1 + 3, 5 * 1 + 7)
    assert CHAIN.side_start(TREE, SITE, 1.0, foot) == (2 * 1 + 5, 5 * 1 + 12)
    assert CHAIN.side(TREE, SITE, 1.0, foot) == (2 * 1 + 3 * 5, 5 * 1 + 7 * 12)
    assert CHAIN.head(TREE, SITE, 1.0, foot) == 5 * (2 * 1 + 3 * 5) + 7 * 12


def test_trees_are_handed_out_and_put_together():
    tuned = {"shared": TREE, "encoder": TREE, "theta": {}}
    parts = {"0": {"a": 3.0}, "1": {"a": 6.0}}
    assert CHAIN.export(tuned) == {"shared": parts, "encoder": parts, "theta": {}}
    assert CHAIN.exported() == Chain((Affine("m'"), Affine("n'")))
    minus = {"0": {"a": -2.0, "b": -3.0}, "1": {"a": -5.0, "b": -7.0}}
    assert CHAIN.constrain(tuned) == {"shared": minus, "encoder": minus, "theta": {}}
    assert CHAIN.read("v", ["w"]) == {"0": {"m": ("v", "w")}, "1": {"n": ("v", "w")}}


@pytest.mark.parametrize("name", contract.CHAINS)
def test_parameters_are_those_of_each_method(name):
    chain, theta = contract.METHODS[name], small.theta()
    together = chain.abstract(CONFIG, theta)
    axes = chain.axes(CONFIG, together)
    left, taken = theta, {}
    for i, method in enumerate(chain.methods):
        left, more = method.split(left)
        taken |= more
        own = jax.eval_shape(lambda t, m=method: m.init(jax.random.key(0), CONFIG, t), theta)
        assert {part: together[part][str(i)] for part in own} == own
        names = method.axes(CONFIG, own)
        assert {part: axes[part][str(i)] for part in own} == {part: names[part] for part in own}
    assert together["theta"].keys() == axes["theta"].keys() == taken.keys()


def test_methods_of_a_chain_start_apart():
    chain = Chain((LoRA(rank=2, targets=("query",)), LoRA(rank=2, targets=("query",))))
    tuned = small.init(chain, small.theta())
    first, second = (tuned["encoder"][i]["self"]["query"]["a"] for i in "01")
    assert not np.allclose(first, second)


def test_parts_of_theta_are_taken_by_their_own_method():
    chain = Chain((Full(("decoder/.*norm/scale",)), Prompt(3), Full((".*rel_embedding",))))
    theta = small.theta()
    frozen, taken = chain.split(theta)
    assert set(taken) == {
        "decoder/decoder_norm/scale",
        *(
            f"decoder/layers/pre_{part}_layer_norm/scale"
            for part in ("self_attention", "cross_attention", "mlp")
        ),
        "encoder/relpos_bias/rel_embedding",
        "decoder/relpos_bias/rel_embedding",
    }
    assert "relpos_bias" not in frozen["encoder"]
    tuned = small.init(chain, theta) | {"theta": taken}
    assert small.same(chain.join(frozen, tuned), theta)
    assert chain.export(tuned)["theta"].keys() == taken.keys()
    axes = chain.axes(CONFIG, tuned)["theta"]
    assert axes["decoder/decoder_norm/scale"] == ("embed",)
    assert axes["encoder/relpos_bias/rel_embedding"] == ("heads", "relpos_buckets")


def test_a_chain_of_nothing_is_the_plain_model():
    empty = {part: {} for part in ("shared", "encoder", "decoder")}
    assert small.init(Chain(), small.theta()) == empty
    plain = small.logits(small.theta(), small.batch())
    assert np.array_equal(small.logits(small.theta(), small.batch(), method=Chain()), plain)


def test_the_same_leaf_cannot_be_taken_twice():
    chain = Chain((Full((".*rel_embedding",)), Full((".*rel_embedding",))))
    with pytest.raises(UserError, match="matches no parameter"):
        chain.split(small.theta())
