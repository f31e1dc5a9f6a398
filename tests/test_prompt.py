"""Prompt, prefix, LoRA and full: what each computes, against T5 written out in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy_t5
import pytest
import small
from flax import traverse_util

from prompt_tuning_jax import t5
from prompt_tuning_jax.decoding import Beam, Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Chain, Method, Site
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prefix import Prefix
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.streams import Stream

CONFIG, THETA, BATCH = small.CONFIG, small.theta(), small.batch()
RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def assert_each_example(logits, prompts=(None,) * 4, extra=None, sees_input=True, theta=THETA):
    """Row i of the batch's logits is example i alone in numpy, with its prompt's rows."""
    targets = small.shifted(small.TARGETS)[: len(prompts)]
    rows = zip(logits, small.INPUTS[: len(prompts)], targets, prompts, strict=True)
    for row, inputs, targets, prompt in rows:
        wanted = numpy_t5.logits(theta, inputs, targets, prompt, extra, sees_input)
        small.close(row[: len(targets)], wanted)


# ---- prompt --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts():
    """Three prompts [3,5,D]."""
    return normal(3, 5, CONFIG.emb_dim)


def shared(**tree):
    return t5.EMPTY | {"shared": tree}


sees_input = pytest.mark.parametrize("sees_input", [True, False])


@sees_input
def test_prompt_rows_stand_in_front_of_the_embedded_input(prompts, sees_input):
    method, tuned = Prompt(5, sees_input=sees_input), shared(prompt=prompts[:1])
    logits = small.logits(THETA, BATCH, method=method, tuned=tuned)
    assert_each_example(logits, prompts[[0, 0, 0, 0]], sees_input=sees_input)


@sees_input
def test_each_example_gets_the_prompt_that_its_id_names(prompts, sees_input):
    batch = BATCH | {"prompt_ids": np.array([[2], [0], [1], [2]])}
    method, tuned = Prompt(5, prompts=3, sees_input=sees_input), shared(prompt=prompts)
    logits = small.logits(THETA, batch, method=method, tuned=tuned)
    assert_each_example(logits, prompts[[2, 0, 1, 2]], sees_input=sees_input)


@sees_input
@pytest.mark.parametrize("names", [[0, 0, 0], [2, 0, 1]])
def test_each_segment_of_a_packed_row_has_its_own_prompt(prompts, sees_input, names):
    count = max(names) + 1
    method, tuned = Prompt(5, prompts=count, sees_input=sees_input), shared(prompt=prompts[:count])
    batch = small.packed(3) | {"prompt_ids": np.array([names])}
    (row,) = small.logits(THETA, batch, method=method, tuned=tuned)
    parts = np.split(row, np.cumsum([len(target) for target in small.TARGETS[:3]]))[:3]
    assert_each_example(parts, prompts[names], sees_input=sees_input)


def test_rows_apart_where_each_layer_has_a_table_of_distances(prompts):
    """umT5's layout, every layer with the same table: as the stack's one table."""
    config = dataclasses.replace(CONFIG, relpos_per_layer=True)
    theta = {name: dict(part) for name, part in THETA.items()}
    for stack, depth in (("encoder", 2), ("decoder", 3)):
        table = theta[stack].pop("relpos_bias")["rel_embedding"]
        own = {"rel_embedding": np.stack([table] * depth)}
        theta[stack]["layers"] = theta[stack]["layers"] | {"relpos_bias": own}
    method, tuned = Prompt(5, sees_input=False), shared(prompt=prompts[:1])
    logits = small.logits(theta, BATCH, config, method=method, tuned=tuned)
    assert_each_example(logits, prompts[[0, 0, 0, 0]], sees_input=False)


def test_two_prompts_apart_are_one_behind_the_other(prompts):
    """A later method's rows stand in front of an earlier one's, and see them."""
    both = Chain((Prompt(5, sees_input=False), Prompt(2, sees_input=False)))
    tuned = {part: {"0": {}, "1": {}} for part in ("encoder", "decoder")}
    tuned["shared"] = {"0": {"prompt": prompts[:1]}, "1": {"prompt": prompts[1:2, :2]}}
    logits = small.logits(THETA, BATCH, method=both, tuned=tuned)
    joined = np.concatenate([prompts[1, :2], prompts[0]])
    assert_each_example(logits, [joined] * 4, sees_input=False)


def generate(decoder, method, tuned, batch, length=6):
    @small.quick_jit
    def run(theta, tuned, batch):
        model = t5.T5(CONFIG, method)
        rng = jax.random.split(jax.random.key(0), len(batch["encoder_input_tokens"]))
        return decoder(model, theta, tuned, batch, length, rng, None)

    return np.asarray(run(THETA, tuned, batch))


@pytest.fixture(scope="module")
def mixed(prompts):
    """A method with three prompts apart, `tuned`, and a batch that mixes them."""
    batch = BATCH | {"prompt_ids": np.array([[2], [0], [1], [2]])}
    return Prompt(5, prompts=3, sees_input=False), shared(prompt=prompts), batch


def test_greedy_tokens_of_rows_apart_are_the_likeliest(prompts, mixed):
    rows = generate(Greedy(), *mixed)
    for row, inputs, name in zip(rows, small.INPUTS, mixed[2]["prompt_ids"][:, 0], strict=True):
        given = [0]
        for token in row:
            logits = numpy_t5.logits(THETA, inputs, given, prompts[name], sees_input=False)
            assert token == np.argmax(logits[-1])
            given.append(token)
            if token == 1:
                break


@pytest.mark.parametrize("decoder", [Greedy(), Beam(3)])
def test_generations_of_mixed_prompts_apart(prompts, mixed, decoder):
    """What each example generates alone with its one prompt; and the same from keys and values
    that were computed before."""
    method, tuned, batch = mixed
    together = generate(decoder, *mixed)
    for row, name in enumerate(batch["prompt_ids"][:, 0]):
        alone = {"encoder_input_tokens": batch["encoder_input_tokens"][row : row + 1]}
        own = shared(prompt=prompts[name][None])
        one = generate(decoder, Prompt(5, sees_input=False), own, alone)
        np.testing.assert_array_equal(one[0], together[row])

    @small.quick_jit
    def keys(theta, tuned):
        return t5.row_keys(t5.T5(CONFIG, method), theta, tuned)

    before = tuned | {"rows": keys(THETA, tuned)}
    # [L,N,P,H,K]
    assert before["rows"]["encoder"][0].shape == (2, 3, 5, 4, 6)
    assert before["rows"]["decoder"][1].shape == (3, 3, 5, 4, 6)
    np.testing.assert_array_equal(generate(decoder, method, before, batch), together)
    wanted = small.logits(THETA, batch, method=method, tuned=tuned)
    small.close(small.logits(THETA, batch, method=method, tuned=before), wanted)


@pytest.mark.parametrize("method", [Method(), Prompt(5)], ids=["plain", "prompt"])
def test_a_method_without_rows_apart_has_no_keys_to_compute(method):
    def keys(theta, tuned):
        return t5.row_keys(t5.T5(CONFIG, method), theta, tuned)

    assert jax.eval_shape(keys, THETA, method.abstract(CONFIG, THETA)) == {}


def test_mask_and_positions_cover_the_prompt():
    stream = Stream(
        x=jnp.ones((2, 3, CONFIG.emb_dim)),
        segment_ids=jnp.array([[1, 1, 0], [1, 0, 0]]),
        positions=jnp.arange(3)[None],
    )
    rows = jnp.full((1, 2, CONFIG.emb_dim), 7.0)
    out = Prompt(2).embed({"prompt": rows}, Site("encoder"), stream)
    assert out.segment_ids.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert out.positions.tolist() == [[0, 1, 2, 3, 4]]
    assert out.x[:, :, 0].tolist() == [[7, 7, 1, 1, 1]] * 2
    assert Prompt(2).embed({"prompt": rows}, Site("decoder"), stream) is stream


def test_the_prompt_stays_float32_under_bfloat16_activations():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    abstract = Prompt(5).abstract(config, THETA)
    assert abstract["shared"]["prompt"].dtype == jnp.float32
    assert abstract["shared"]["prompt"].shape == (1, 5, CONFIG.emb_dim)

    def step(params, tuned):
        model = t5.T5(config, Prompt(5))
        states, pull = jax.vjp(
            lambda tuned: model.apply({"params": params}, tuned, BATCH, method="encode").x, tuned
        )
        return states, pull(states)[0]

    states, gradient = jax.eval_shape(step, THETA, shared(**abstract["shared"]))
    assert states.dtype == jnp.bfloat16
    assert gradient["shared"]["prompt"].dtype == jnp.float32


def test_every_row_of_a_used_prompt_has_a_gradient(prompts):
    batch = BATCH | {"prompt_ids": np.array([[2], [0], [0], [2]])}

    @small.quick_jit
    def gradient(params, tuned):
        def loss(tuned):
            logits = t5.T5(CONFIG, Prompt(5, prompts=3)).apply({"params": params}, tuned, batch)
            return jnp.sum(jnp.sin(logits))

        return jax.grad(loss)(tuned)

    norms = np.linalg.norm(gradient(THETA, shared(prompt=prompts))["shared"]["prompt"], axis=-1)
    assert np.all(norms[[0, 2]] > 1e-3)
    assert np.all(norms[1] == 0)


@pytest.mark.parametrize("length", [0, -1, 2.5, "5"])
def test_a_prompt_has_at_least_one_row(length):
    with pytest.raises(UserError, match="PROMPT_LENGTH"):
        Prompt(length)


# ---- prefix --------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["encoder_self", "decoder_self", "decoder_cross"])
def test_prefix_keys_are_seen_by_all_at_bias_0(site):
    assert CONFIG.num_heads * CONFIG.head_dim != CONFIG.emb_dim
    stack, part = site.split("_")
    layers = {"encoder": CONFIG.num_encoder_layers, "decoder": CONFIG.num_decoder_layers}[stack]
    key, value = normal(2, layers, 3, CONFIG.num_heads, CONFIG.head_dim)
    method = Prefix(3, sites=(site,), hidden=0)
    tuned = t5.EMPTY | {stack: {part: {"key": key, "value": value}}}
    own = method.abstract(CONFIG, THETA)
    own.pop("theta")
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, tuned)
    logits = small.logits(THETA, BATCH, method=method, tuned=tuned)
    assert_each_example(logits, extra={site: (key, value)})


def test_the_reparametrisation_is_folded_into_plain_tensors():
    method = Prefix(3, sites=("encoder_self", "decoder_cross"), hidden=8, width=5)
    tuned = small.init(method, THETA)
    assert tuned["encoder"] == tuned["decoder"] == {}
    plain = method.export(tuned)
    assert plain["shared"] == {}
    for site, part in (
        ("encoder_self", plain["encoder"]["self"]),
        ("decoder_cross", plain["decoder"]["cross"]),
    ):
        p = jax.tree.map(np.asarray, tuned["shared"][site])
        hidden = np.tanh(p["rows"].astype(np.float64) @ p["down"]["kernel"] + p["down"]["bias"])
        layers = p["up"]["kernel"].shape[2]
        for layer in range(layers):
            for i, name in enumerate(("key", "value")):
                up = p["up"]["kernel"][:, i, layer]
                wanted = np.einsum("pm,mhk->phk", hidden, up) + p["up"]["bias"][i, layer]
                small.close(part[name][layer], wanted)
    assert method.exported() == Prefix(
        3, sites=("encoder_self", "decoder_cross"), hidden=0, width=5
    )
    # as the exported method wants it
    own = method.exported().abstract(CONFIG, THETA)
    own.pop("theta")
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, plain)


def test_prefix_errors():
    with pytest.raises(UserError, match="at least one row"):
        Prefix(0)
    with pytest.raises(UserError, match="encoder_cross"):
        Prefix(3, sites=("encoder_cross",))
    with pytest.raises(UserError, match="choose from"):
        Prefix(3, sites=())


# ---- LoRA ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora():
    """LoRA on every matrix, with a trained-looking B -> (method, tuned)."""
    names = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
    method = LoRA(rank=2, alpha=6.0, targets=names)
    tuned = small.init(method, THETA)
    return method, jax.tree.map(lambda leaf: leaf + 0.1 * normal(*leaf.shape), tuned)


def test_lora_is_a_merged_kernel(lora):
    method, tuned = lora
    flat = traverse_util.flatten_dict(THETA, sep="/")
    blocks = {
        "encoder/self": "encoder/layers/attention",
        "decoder/self": "decoder/layers/self_attention",
        "decoder/cross": "decoder/layers/encoder_decoder_attention",
        "encoder/mlp": "encoder/layers/mlp",
        "decoder/mlp": "decoder/layers/mlp",
    }
    merged = dict(flat)
    for path, block in blocks.items():
        stack, part = path.split("/")
        for name, ab in tuned[stack][part].items():
            kernel = flat[f"{block}/{name}/kernel"].astype(np.float64)
            # alpha / rank = 3
            for layer in range(len(kernel)):
                kernel[layer] += 3 * np.asarray(ab["a"][layer], np.float64) @ ab["b"][layer]
            merged[f"{block}/{name}/kernel"] = kernel.astype(np.float32)
    moved = {path for path in flat if not np.array_equal(flat[path], merged[path])}
    assert moved == {path for path in flat if "/layers/" in path and path.endswith("kernel")}
    merged = traverse_util.unflatten_dict(merged, sep="/")
    wanted = small.logits(merged, BATCH)
    assert np.abs(wanted - small.logits(THETA, BATCH)).max() > 0.1 * np.abs(wanted).max()
    small.close(small.logits(THETA, BATCH, method=method, tuned=tuned), wanted)


def test_lora_s_dropout_is_on_its_own_input_alone(lora):
    method, tuned = lora
    method = dataclasses.replace(method, dropout=0.5)
    own = jax.tree.map(lambda leaf: leaf[0], tuned["encoder"])
    x, site = jnp.ones((30, 10, CONFIG.emb_dim)), Site("encoder", "self", "query")
    plain = method.project(own, site, lambda x: 0 * x[..., :1], x)
    small.close(plain, 3 * x @ own["self"]["query"]["a"] @ own["self"]["query"]["b"])
    training = site._replace(train=True, rng=jax.random.key(0))
    dropped = [
        method.project(own, training._replace(name=name), lambda x: 0 * x[..., :1], x)
        for name in ("query", "query", "key")
    ]
    assert np.array_equal(dropped[0], dropped[1])
    # kept inputs are doubled: the same in the mean of 300 draws
    small.close(dropped[0].mean((0, 1)), plain[0, 0], 0.25)
    assert np.asarray(dropped[0]).std((0, 1)).min() > 0.05
    # another matrix has another mask: the masks, not just the matrices, differ
    kept = []
    for name in ("query", "key"):
        eye = {"self": {name: {"a": jnp.eye(CONFIG.emb_dim), "b": jnp.eye(CONFIG.emb_dim)}}}
        kept.append(method.project(eye, training._replace(name=name), lambda x: 0 * x, x) > 0)
    assert 0.4 < np.mean(kept[0] == kept[1]) < 0.6


def test_lora_starts_at_the_variance_of_its_inputs():
    method = LoRA(rank=64, targets=("query", "wo"), parts=("self", "mlp"))
    config = dataclasses.replace(CONFIG, mlp_dim=256)
    tuned = small.init(method, THETA, config)["decoder"]
    assert set(tuned) == {"self", "mlp"}
    assert float(tuned["mlp"]["wo"]["a"].std()) == pytest.approx(256**-0.5, rel=0.05)
    assert float(tuned["self"]["query"]["a"].std()) == pytest.approx(16**-0.5, rel=0.05)
    assert not tuned["mlp"]["wo"]["b"].any()
    # no two layers, and no two matrices, start alike
    layers = [
        np.asarray(leaf[:16]).ravel()
        for a in (tuned["mlp"]["wo"]["a"], tuned["self"]["query"]["a"])
        for leaf in a
    ]
    correlation = np.corrcoef(layers) - np.eye(len(layers))
    assert np.abs(correlation).max() < 0.2


def test_lora_errors():
    with pytest.raises(UserError, match="rank"):
        LoRA(rank=0)
    with pytest.raises(UserError, match="'q'"):
        LoRA(targets=("q",)).abstract(CONFIG, THETA)


# ---- full ----------------------------------------------------------------------------------


def test_full_takes_the_chosen_leaves_and_leaves_no_second_copy():
    method = Full(("encoder/layers/mlp/.*", r".*relpos_bias/rel_embedding"))
    frozen, taken = method.split(THETA)
    assert set(taken) == {
        *(f"encoder/layers/mlp/{name}/kernel" for name in ("wi_0", "wi_1", "wo")),
        "encoder/relpos_bias/rel_embedding",
        "decoder/relpos_bias/rel_embedding",
    }
    left = traverse_util.flatten_dict(frozen, sep="/")
    assert not set(left) & set(taken)
    flat = traverse_util.flatten_dict(THETA, sep="/")
    assert {**left, **taken}.keys() == flat.keys()
    assert all(taken[path] is flat[path] for path in taken)  # moved, not copied
    assert small.same(method.join(frozen, {"theta": taken}), THETA)


def test_full_takes_everything_by_default():
    frozen, taken = Full().split(THETA)
    assert jax.tree.leaves(frozen) == []
    assert len(taken) == len(jax.tree.leaves(THETA))
    assert small.same(Full().join(frozen, {"theta": taken}), THETA)


def test_a_pattern_that_matches_nothing_is_an_error():
    # regular expressions match the whole path, as in T5X
    for pattern in ("encoder/layers/mlp", "encodr/.*"):
        with pytest.raises(UserError, match=pattern):
            Full((".*scale", pattern)).split(THETA)


def test_the_plain_method_takes_and_adds_nothing():
    frozen, taken = Method().split(THETA)
    assert frozen is THETA and taken == {}
    assert jax.tree.leaves(Method().abstract(CONFIG, THETA)) == []
