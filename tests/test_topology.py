"""What compiled programs cost: loops, products, traffic and collectives; describe for a mesh of CPU
devices and for TPU slices, against counts by hand."""

import contextlib
import io
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from prompt_tuning_jax import compiled_cost, described_step, launch, topologies
from prompt_tuning_jax.errors import UserError

# B, T, U tokens, P prompt rows that see the input, S = P + T, D, F, V; H heads of K
B, T, U, P, D, F, V, H, K, ENCODER, DECODER = 8, 32, 8, 5, 64, 128, 256, 4, 16, 3, 2
S = P + T
MODEL = [
    "--gin_file=models/t5_1_1_small_prompt.gin",
    "--gin_file=runs/prompt_finetune.gin",
    f"--gin.NUM_EMBEDDINGS={V}",
    f"--gin.EMBED_DIM={D}",
    f"--gin.NUM_HEADS={H}",
    f"--gin.HEAD_DIM={K}",
    f"--gin.MLP_DIM={F}",
    f"--gin.NUM_ENCODER_LAYERS={ENCODER}",
    f"--gin.NUM_DECODER_LAYERS={DECODER}",
    f"--gin.PROMPT_LENGTH={P}",
    "--gin.REMAT_POLICY='none'",
    "--gin.DROPOUT_RATE=0.0",
]
BATCH = [f"--gin.BATCH_SIZE={B}", f'--gin.TASK_FEATURE_LENGTHS={{"inputs": {T}, "targets": {U}}}']
ON_FOUR = "--gin.MESH={'data': 1, 'model': 4}"
TPU = pytest.mark.skipif(
    not topologies.available(), reason="libtpu is not installed: the extra tpu-topology"
)


def described(*flags):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert launch.main("describe", flags) == 0
    return json.loads(out.getvalue())


def error_of(capsys, *flags):
    assert launch.main("describe", flags) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


# ---- programs --------------------------------------------------------------------------------


def work_of(function, *shapes, rounds=1):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return compiled_cost.read(jax.jit(function).lower(*arguments).compile().as_text(), 1, rounds)


def test_a_loop_in_a_loop_counts_as_often_as_it_runs():
    def f(x, w):
        inner = lambda x: jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ w), x)  # noqa: E731
        return jax.lax.fori_loop(0, 3, lambda _, x: inner(x) + 1, x)

    program = work_of(f, (8, 16), (16, 16))
    assert program.work.flops == 3 * 5 * 2 * 8 * 16 * 16
    assert program.open_loop.flops == 0


def test_a_loop_that_its_data_end_counts_the_rounds_that_are_given():
    def f(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ w, x @ w)

    program = work_of(f, (8, 16), (16, 16), rounds=9)
    assert program.open_loop.flops == 2 * 8 * 16 * 16
    assert program.work.flops == (1 + 9) * 2 * 8 * 16 * 16


def test_of_a_stack_a_loop_reads_a_layer_at_a_time():
    layers, width = 32, 256

    def f(x, stack):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]

    stack = layers * width * width * 4
    found = work_of(f, (1, width), (layers, width, width)).work
    assert found.flops == 2 * layers * width * width
    # once, or copied to where the product reads it; not the stack for each layer
    assert stack <= found.hbm_bytes < 4 * stack


HLO = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%body (p: (s32[], f32[64])) -> (s32[], f32[64]) {
  %p = (s32[], f32[64]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[64]{0} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %reduced = f32[64]{0} all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add
  ROOT %t = (s32[], f32[64]{0}) tuple(%next, %reduced)
}

%condition (p: (s32[], f32[64])) -> pred[] {
  %p = (s32[], f32[64]{0}) parameter(0)
  %n = s32[] constant(7)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[64]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  %zero = s32[] constant(0)
  %gathered = f32[256]{0} all-gather(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %begun = (f32[64]{0}, f32[64]{0}) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %moved = f32[64]{0} collective-permute-done(%begun)
  %scattered = f32[32]{0} reduce-scatter(%gathered), replica_groups=[1,8]<=[8], to_apply=%add
  %t = (s32[], f32[64]{0}) tuple(%zero, %moved)
  %loop = (s32[], f32[64]{0}) while(%t), condition=%condition, body=%body
  ROOT %end = f32[64]{0} get-tuple-element(%loop), index=1
}
"""


def test_collectives_by_kind_and_what_a_device_sends_for_them():
    moved = compiled_cost.read(HLO, 8).work.collectives
    facts = {kind: (m.count, m.bytes, m.sent) for kind, m in moved.items()}
    assert facts == {
        "all-gather": (1, 4 * 256, 4 * 256 * 3 / 4),
        "all-reduce": (7, 7 * 4 * 64, 7 * 4 * 64 * 2 * 3 / 4),
        "collective-permute": (1, 4 * 64, 4 * 64),
        "reduce-scatter": (1, 4 * 32, 4 * 32 * 7),
    }


# ---- describe on four CPU devices ----------------------------------------------------------------


@pytest.fixture(scope="module")
def on_four():
    """JAX has begun here, with one device: a process of its own."""
    command = [sys.executable, "-m", "prompt_tuning_jax.describe", *MODEL, *BATCH, ON_FOUR]
    done = subprocess.run(
        command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "compiling train for 4 CPU devices …",
        "compiling decode for 4 CPU devices …",
    ]
    return json.loads(done.stdout)


# multiply-adds of the weights for each token, by hand
SELF, MLP, CROSS_KEYS, CROSS = 4 * D * H * K, 3 * D * F, 2 * D * H * K, 2 * D * H * K
FORWARD = (
    B * S * ENCODER * (SELF + MLP)
    + B * S * DECODER * CROSS_KEYS
    + B * U * DECODER * (SELF + CROSS + MLP)
    + B * U * D * V
)
# those of scores and of what they weigh
ATTENTION = 2 * B * H * K * (ENCODER * S * S + DECODER * (U * U + U * S))


def test_arguments_are_theta_s_pieces_the_state_the_batch_and_a_key(on_four):
    norms = (2 * ENCODER + 3 * DECODER + 2) * D
    theta = (
        2 * V * D
        + ENCODER * (SELF + MLP)
        + DECODER * (SELF + CROSS_KEYS + CROSS + MLP)
        + 2 * H * 32
    )
    held = 4 * (norms + theta // 4)
    assert on_four["frozen_bytes_per_device"] == held
    batch, key = 4 * (B * T + 3 * B * U), 8
    hand = held + on_four["checkpoint_bytes"] + batch + key
    # the best step so far only passes through
    assert abs(on_four["train"]["argument_bytes"] - hand) <= 32
    # θ is no result: tuned and its state are, in place of the old, and the report
    assert on_four["train"]["aliased_bytes"] <= on_four["checkpoint_bytes"]
    assert on_four["train"]["output_bytes"] < on_four["checkpoint_bytes"] + 512


def test_the_products_of_a_step(on_four):
    # back through the weights to the prompt, not to the weights; attention has two factors
    hand = 2 * (2 * FORWARD + 3 * ATTENTION) / 4
    assert on_four["train"]["flops"] == pytest.approx(hand, rel=0.001)


def test_the_all_reduces_of_a_step(on_four):
    inputs, targets = 4 * B * S * D, 4 * B * U * D
    forward = ENCODER * 2 * inputs + DECODER * 3 * targets + 4 * B * T * D + targets
    # on a CPU the gradients of what query, key, value or wi_0, wi_1 read are added afterwards
    backward = ENCODER * 5 * inputs + DECODER * (6 * targets + 2 * inputs) + targets
    found = on_four["train"]["collectives"]
    assert found.keys() == {"all-reduce"}
    # and numbers a token of the loss, whose vocabulary is in four pieces
    assert 0 <= found["all-reduce"]["bytes"] - (forward + backward) <= 12 * 4 * B * U
    assert found["all-reduce"]["sent"] == pytest.approx(found["all-reduce"]["bytes"] * 2 * 3 / 4)


def test_the_products_of_decoding_and_of_a_token(on_four):
    a_token = B * (DECODER * (SELF + CROSS + MLP) + D * V) + 2 * B * H * K * DECODER * (U + S)
    encoder = B * S * ENCODER * (SELF + MLP) + 2 * B * H * K * ENCODER * S * S
    keys = B * S * DECODER * CROSS_KEYS
    assert on_four["decode"]["a_round"]["flops"] == pytest.approx(2 * a_token / 4, rel=0.001)
    assert on_four["decode"]["flops"] == pytest.approx(
        2 * (encoder + keys + U * a_token) / 4, rel=0.001
    )
    reduced = on_four["decode"]["a_round"]["collectives"]["all-reduce"]["bytes"]
    assert 0 <= reduced - 4 * B * D * (3 * DECODER + 1) <= 4 * 4 * B


def test_a_cpu_fits_and_limits_nothing_that_is_known(on_four):
    assert on_four["compiled_for"] == "4 CPU devices"
    assert on_four["mesh"] == {"data": 1, "model": 4}
    assert not {"fits", "memory_bytes", "roofline_seconds"} & on_four["train"].keys()


# ---- describe for TPU slices ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_a_slice():
    return described("--topology=v5e:2x2", *MODEL, *BATCH, "--gin.EVAL_TASKS=[]")


@TPU
def test_a_slice_has_the_same_products(on_a_slice):
    """There a product of heads is a convolution with a padded, dilated window."""
    assert on_a_slice["mesh"] == {"data": 1, "model": 4}
    hand = 2 * (2 * FORWARD + 3 * ATTENTION) / 4
    assert on_a_slice["train"]["flops"] == pytest.approx(hand, rel=0.001)
    assert "decode" not in on_a_slice


@TPU
def test_a_slice_s_bytes_are_the_pieces_in_tiles(on_a_slice):
    step = on_a_slice["train"]
    hand = on_a_slice["frozen_bytes_per_device"] + on_a_slice["checkpoint_bytes"]
    # a tile is 128 numbers long, twice as long as most rows here
    assert hand <= step["argument_bytes"] <= 2.2 * hand
    assert step["fits"] and step["memory_bytes"] == 15.75 * 2**30
    assert step["used_bytes"] == (
        step["argument_bytes"]
        + step["output_bytes"]
        - step["aliased_bytes"]
        + step["temporary_bytes"]
    )


@TPU
def test_the_bound_of_a_step_is_by_the_chip_s_published_peaks(on_a_slice):
    step, seconds = on_a_slice["train"], on_a_slice["train"]["roofline_seconds"]
    assert seconds["compute"] == pytest.approx(step["flops"] / 197e12)
    assert seconds["memory"] == pytest.approx(step["hbm_bytes"] / 819e9)
    sent = sum(moved["sent"] for moved in step["collectives"].values())
    assert seconds["links"] == pytest.approx(sent * 8 / 1600e9)
    bound = max(seconds["compute"], seconds["memory"]) + seconds["links"]
    assert seconds["step"] == pytest.approx(bound)
    assert step["limited_by"] == max(("compute", "memory", "links"), key=seconds.__getitem__)


@TPU
def test_what_does_not_fit_is_told_also_of_a_model_alone():
    files = [flag for flag in MODEL if "prompt_finetune" not in flag]
    larger = ["--gin.NUM_EMBEDDINGS=32128", "--gin.train.train.batch_size=4096"]
    facts = described("--topology=v5e:1x1", *files, *larger, "--gin.train.train.eval_tasks=[]")
    assert facts["batch"] == {"size": 4096, "microbatches": 1, "inputs": 512, "targets": 100}
    assert facts["train"]["fits"] is False
    # the logits and their gradient alone
    assert facts["train"]["used_bytes"] > 2 * 4 * 4096 * 100 * 32128
    assert "15.75G" in facts["train"]["said"]


@TPU
@pytest.mark.parametrize(("rows", "fits"), [(2**16, True), (2**17 + 2**14, False)])
def test_a_program_whose_gaps_leave_no_room_is_compiled_and_does_not_fit(rows, fits):
    """libtpu looks at what lives at once, not at where it lies."""
    slice_ = topologies.find("v5e:1x1")
    place = jax.sharding.SingleDeviceSharding(slice_.devices[0])

    @jax.checkpoint
    def layer(x, kernel):
        for _ in range(3):
            x = jnp.tanh(x @ kernel)
        return x, None

    def loss(x, kernels):
        return jnp.square(jax.lax.scan(layer, x, kernels)[0].astype(jnp.float32)).sum()

    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place)
        for shape in ((rows, 4096), (8, 4096, 4096))
    ]
    facts = described_step.cost(jax.jit(jax.grad(loss)).lower(*shapes), 1, slice_.chip, 1)
    assert facts["peak_bytes"] < slice_.chip.memory and facts["fits"] is fits
    held = 8 * rows * 4096 * 2  # the layers' inputs, of which all are needed on the way back
    assert facts["temporary_bytes"] > held
    assert (facts["used_bytes"] <= slice_.chip.memory) is fits


# ---- what cannot be ------------------------------------------------------------------------------


@TPU
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5e", "v5e:4x4"),
        ("v9:2x2", "v5p"),
        ("v5e:2", "v5e:4x4"),
        ("v5e:3x5", "3x5"),
        ("v5e:0x4", "v5e:4x4"),
        ("v5e:2x2x2", "v5e:4x4"),
        ("v5p:2x2", "v5p:2x2x1"),
    ],
)
def test_a_slice_that_there_is_none_of(capsys, name, said):
    line = error_of(capsys, f"--topology={name}", *MODEL, *BATCH)
    assert line.startswith(f"error: --topology={name}: ") and said in line


@TPU
@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        ({"data": 3, "model": 1}, "data = 3 x model = 1 on 4 devices"),
        ({"data": 8, "model": 1}, "data = 8 x model = 1 on 4 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_the_slice(capsys, mesh, said):
    line = error_of(capsys, "--topology=v5e:2x2", *MODEL, *BATCH, f"--gin.MESH={mesh}")
    assert f"MESH: {said}" in line


@TPU
def test_a_default_mesh_is_as_long_as_heads_and_widths_allow():
    slice_ = topologies.find("v5e:4x4")
    assert len(slice_.devices) == 16
    assert slice_.mesh(64, 32128, 10240) == {"data": 1, "model": 16}
    assert slice_.mesh(12, 32128, 2048) == {"data": 4, "model": 4}
    assert slice_.mesh(6, 32128, 1024) == {"data": 8, "model": 2}


def test_a_slice_needs_libtpu(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    line = error_of(capsys, "--topology=v5e:2x2", *MODEL, *BATCH)
    assert "pip install" in line and "tpu-topology" in line
    with pytest.raises(UserError, match="libtpu"):
        topologies.find("v5e:2x2")


def test_a_mesh_that_a_cpu_has_not(capsys):
    line = error_of(capsys, *MODEL, *BATCH, ON_FOUR)
    assert "MESH: data = 1 x model = 4 on 1 devices" in line


def test_lengths_are_checked(capsys):
    line = error_of(capsys, *MODEL, "--gin.TASK_FEATURE_LENGTHS={'inputs': 8}")
    assert "TASK_FEATURE_LENGTHS" in line
