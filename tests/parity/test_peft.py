"""Our methods against PEFT's on transformers' T5: the same θ, tuned values and batches."""

import dataclasses

import compared
import jax
import jax.numpy as jnp
import numpy as np
import optax
import peft
import pytest
import reference
import torch
from golden import weights
from transformers.models.t5 import modeling_t5

from prompt_tuning_jax import decoding, t5, training_step
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prefix import Prefix
from prompt_tuning_jax.methods.prompt import Prompt

CONFIG = weights.CONFIGS["t5_1_1"]
# PEFT's prefix needs heads * d_kv == d_model, and stacks of one depth
SQUARE = dataclasses.replace(CONFIG, head_dim=8, num_heads=4, num_decoder_layers=3)
P, STEPS, TOLERANCE = 5, 20, 1e-5
OPTIMIZERS = {
    "sgd": (optax.sgd(0.5), lambda p: torch.optim.SGD(p, lr=0.5)),
    "adam": (optax.adam(0.05), lambda p: torch.optim.Adam(p, lr=0.05)),
}


def objective(config, method, theta, batch):
    """tuned -> the training loss of our model, jitted with its gradient."""
    shares, model = Loss().weights(batch), t5.T5(config, method)

    def loss(tuned):
        logits = model.apply({"params": theta}, method.export(tuned), batch)
        return (Loss().tokens(logits, batch["decoder_target_tokens"])[0] * shares).sum()

    return jax.jit(jax.value_and_grad(loss))


def torch_loss(model, batch):
    """PEFT's loss, with gradients left in its parameters."""
    model.zero_grad()
    loss = model(**reference.tensors(batch)).loss
    loss.backward()
    return loss.item()


def train_ours(config, method, theta, tuned, tx, batches):
    """(losses, tuned) of our training step over the batches."""

    @jax.jit
    def step(state, batch):
        options = dict(model=t5.T5(config, method), method=method, tx=tx, loss=Loss())
        return training_step.update(
            state, theta, batch, jax.random.key(0), microbatches=1, **options
        )

    state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": jnp.int32(0)}
    losses = []
    for batch in batches:
        state, report = step(state, batch)
        losses.append(float(report["loss"]))
    return losses, state["tuned"]


def train_theirs(model, make, batches):
    """The losses of a torch optimizer over the batches; the model is changed."""
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    losses = []
    for batch in batches:
        losses.append(torch_loss(model, batch))
        optimizer.step()
    return losses


def batches():
    return [weights.batch(CONFIG, seed) for seed in range(STEPS)]


# ---- prompt ----------------------------------------------------------------------------------
def tuned_prompt(rows):
    return t5.EMPTY | {"shared": {"prompt": jnp.asarray(rows)[None]}}


def test_prompt_loss_and_the_gradient_of_every_row():
    theta, rows, batch = weights.theta(CONFIG), weights.prompt(CONFIG, P), weights.batch(CONFIG)
    loss, grads = objective(CONFIG, Prompt(P), theta, batch)(tuned_prompt(rows))
    for submodules in (1, 2):
        model, embedding = reference.prompted(CONFIG, theta, rows, submodules)
        compared.close("prompt tuning losses", loss, torch_loss(model, batch), TOLERANCE)
        theirs = embedding.grad.numpy()
        own = grads["shared"]["prompt"][0]
        compared.rows("gradients of prompt rows", own, theirs[:P], TOLERANCE)
        assert not theirs[P:].any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_prompt_training_stays_together(name):
    theta, rows = weights.theta(CONFIG), weights.prompt(CONFIG, P)
    model, embedding = reference.prompted(CONFIG, theta, rows)
    tx, make = OPTIMIZERS[name]
    losses, tuned = train_ours(CONFIG, Prompt(P), theta, tuned_prompt(rows), tx, batches())
    wanted = train_theirs(model, make, batches())
    compared.rows("losses of prompt training steps", losses, wanted, TOLERANCE)
    trained = embedding.detach().numpy()
    moved = tuned["shared"]["prompt"][0] - rows
    compared.close("prompts after 20 steps, how far moved", moved, trained - rows, 1e-4)
    assert np.abs(trained - rows).max() > 0.1


@pytest.mark.parametrize("beams", [1, 4])
def test_prompt_generation(beams):
    theta, rows = weights.theta(CONFIG), weights.prompt(CONFIG, P)
    batch = weights.batch(CONFIG, **weights.GENERATED)
    decoder = decoding.Greedy() if beams == 1 else decoding.Beam(beams)
    model = t5.T5(CONFIG, Prompt(P))
    ours = weights.generate(model, theta, tuned_prompt(rows), batch, 12, decoder)
    theirs = reference.generate(reference.prompted(CONFIG, theta, rows)[0], batch, 12, beams)
    kind = f"{'beam' if beams > 1 else 'greedy'} generations with a prompt"
    compared.same(kind, weights.until_end(ours), weights.until_end(theirs))


# ---- LoRA ------------------------------------------------------------------------------------
LORA = LoRA(rank=4, alpha=12.0)  # a scale of 3
SITES = {  # (stack, part) -> (transformers' sublayer, its attention)
    ("encoder", "self"): (0, "SelfAttention"),
    ("decoder", "self"): (0, "SelfAttention"),
    ("decoder", "cross"): (1, "EncDecAttention"),
}


def peft_lora(theta, tuned):
    """PEFT's model with our A and B, and {(stack, part, name, layer): its module}."""
    settings = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=12, target_modules=["q", "v"], lora_dropout=0.0
    )
    base = reference.build(CONFIG, theta)
    model = peft.get_peft_model(base, settings)
    modules = {}
    for (stack, part), (sublayer, attention) in SITES.items():
        for layer, block in enumerate(getattr(base, stack).block):
            for name in ("query", "value"):
                module = getattr(getattr(block.layer[sublayer], attention), name[0])
                modules[stack, part, name, layer] = module
                pair = tuned[stack][part][name]
                with torch.no_grad():
                    module.lora_A["default"].weight.copy_(torch.tensor(pair["a"][layer].T))
                    module.lora_B["default"].weight.copy_(torch.tensor(pair["b"][layer].T))
    return model, modules


def tuned_lora():
    abstract = LORA.abstract(CONFIG, t5.abstract_params(CONFIG))
    return jax.tree.map_with_path(
        # larger ones make training chaotic: float32's last bit decides where it goes
        lambda path, leaf: 0.06 * weights.normal(0, jax.tree_util.keystr(path), leaf.shape),
        abstract,
    )


def check_lora(kind, tree, modules, of, tolerance):
    """Every A and B of `tree` against `of` PEFT's weight, none left over."""
    count = 0
    for (stack, part, name, layer), module in modules.items():
        pair = tree[stack][part][name]
        for own, theirs in (("a", module.lora_A), ("b", module.lora_B)):
            compared.close(kind, pair[own][layer], of(theirs["default"].weight).T, tolerance)
        count += pair["a"][layer].size + pair["b"][layer].size
    assert count == sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_lora_loss_gradients_and_training():
    theta, tuned, batch = weights.theta(CONFIG), tuned_lora(), weights.batch(CONFIG)
    model, modules = peft_lora(theta, tuned)
    loss, grads = objective(CONFIG, LORA, theta, batch)(tuned)
    assert float(loss) == pytest.approx(torch_loss(model, batch), rel=TOLERANCE)
    check_lora("gradients of LoRA's A and B", grads, modules, lambda w: w.grad.numpy(), TOLERANCE)
    tx, make = optax.adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)
    losses, tuned = train_ours(CONFIG, LORA, theta, tuned, tx, batches())
    assert losses == pytest.approx(train_theirs(model, make, batches()), rel=1e-4)
    check_lora("LoRA's A and B after 20 steps", tuned, modules, lambda w: w.detach().numpy(), 1e-3)


# ---- prefix ----------------------------------------------------------------------------------
def prefixed(extra):
    """transformers' attention with more keys and values in front, seen by all at bias 0."""
    plain = modeling_t5.eager_attention_forward

    def attend(module, query, key, value, attention_mask, position_bias=None, **options):
        keys, values = (a[None].expand(len(key), -1, -1, -1) for a in extra[module])
        front = (keys.shape[2], 0)
        if attention_mask is not None:
            attention_mask = torch.nn.functional.pad(attention_mask, front)
        return plain(
            module,
            query,
            torch.cat([keys, key], 2),
            torch.cat([values, value], 2),
            attention_mask,
            position_bias=torch.nn.functional.pad(position_bias, front),
            **options,
        )

    return attend


def tuned_prefix(method, config):
    abstract = method.abstract(config, t5.abstract_params(config))
    return jax.tree.map_with_path(
        lambda path, leaf: weights.normal(0, jax.tree_util.keystr(path), leaf.shape), abstract
    )


def test_prefix_in_every_attention(monkeypatch):
    method = Prefix(P, hidden=0)
    theta, tuned, batch = weights.theta(CONFIG), tuned_prefix(method, CONFIG), weights.batch(CONFIG)
    model, extra, sites = reference.build(CONFIG, theta), {}, {}
    for (stack, part), (sublayer, attention) in SITES.items():
        for layer, block in enumerate(getattr(model, stack).block):
            module = getattr(block.layer[sublayer], attention)
            own = tuned[stack][part]
            # [P,H,K] -> [H,P,K]
            extra[module] = [
                torch.tensor(own[name][layer]).transpose(0, 1).requires_grad_()
                for name in ("key", "value")
            ]
            sites[stack, part, layer] = extra[module]
    monkeypatch.setattr(modeling_t5, "eager_attention_forward", prefixed(extra))
    loss, grads = objective(CONFIG, method, theta, batch)(tuned)
    assert float(loss) == pytest.approx(torch_loss(model, batch), rel=TOLERANCE)
    for (stack, part, layer), leaves in sites.items():
        for name, leaf in zip(("key", "value"), leaves, strict=True):
            ours, theirs = grads[stack][part][name][layer], leaf.grad.numpy().swapaxes(0, 1)
            compared.close("gradients of prefixes", ours, theirs, TOLERANCE)
    many = weights.batch(CONFIG, **weights.GENERATED)
    ours = weights.generate(t5.T5(CONFIG, method), theta, tuned, many, 12, decoding.Greedy())
    assert weights.until_end(ours) == weights.until_end(reference.generate(model, many, 12))


@pytest.mark.parametrize("hidden", [0, 24])
def test_prefix_of_the_decoder(hidden):
    """PEFT's T5 prefix: decoder self-attention alone, at the biases of positions before the first
    token, so the table of biases is 0 here."""
    method = Prefix(P, ("decoder_self",), hidden=hidden, width=SQUARE.emb_dim)
    theta, batch = weights.theta(SQUARE), weights.batch(SQUARE)
    theta["decoder"]["relpos_bias"] = jax.tree.map(jnp.zeros_like, theta["decoder"]["relpos_bias"])
    settings = peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=P,
        prefix_projection=hidden > 0,
        encoder_hidden_size=hidden,
    )
    model = peft.get_peft_model(reference.build(SQUARE, theta), settings)
    encoder = model.prompt_encoder["default"]
    layers = SQUARE.num_decoder_layers
    # PEFT lays its L layers out twice, gives each layer of the decoder the next two and drops the
    # second, meant for cross-attention: layer l gets the keys and values of PEFT's 2 l mod L
    order = [2 * layer % layers for layer in range(layers)]

    def ours(array):
        """PEFT's [..., 2 L H K] -> [..., 2, L, H, K] with our order of layers."""
        shape = (layers, 2, SQUARE.num_heads, SQUARE.head_dim)
        return np.moveaxis(array.reshape(*array.shape[:-1], *shape)[..., order, :, :, :], -3, -4)

    def tree(of):
        """PEFT's parameters (or their gradients) as our tree."""
        rows = of(encoder.embedding.weight)
        if not hidden:
            # [P,2,L,H,K] -> [2,L,P,H,K]
            key, value = np.moveaxis(ours(rows), 0, 2)
            return t5.EMPTY | {"decoder": {"self": {"key": key, "value": value}}}
        down, up = encoder.transform[0], encoder.transform[2]
        mlp = {
            "rows": rows,
            "down": {"kernel": of(down.weight).T, "bias": of(down.bias)},
            "up": {"kernel": ours(of(up.weight).T), "bias": ours(of(up.bias))},
        }
        return t5.EMPTY | {"shared": {"decoder_self": mlp}}

    tuned = tree(lambda p: p.detach().numpy())
    theirs = torch_loss(model, batch)
    loss, grads = objective(SQUARE, method, theta, batch)(tuned)
    assert float(loss) == pytest.approx(theirs, rel=TOLERANCE)
    wanted = jax.tree.leaves(tree(lambda p: p.grad.numpy()))
    compared.rows("gradients of prefix networks", jax.tree.leaves(grads), wanted, TOLERANCE)
