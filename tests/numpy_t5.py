"""T5 1.1 in float64 numpy, one unpadded example at a time: loops over layers and heads, no masks
but the decoder's, no batches. Written from Raffel et al. 2020 and Shazeer 2020 for the tests.

`theta` is a tree in the model's layout (layers stacked on axis 0).
"""

import math

import numpy as np


def bucket(distance, bidirectional):
    """Raffel et al.'s relative-position bucket, in whole numbers alone.

    16 + floor(16 log_8(n / 16)) is 16 + the largest k with 8^k 16^16 <= n^16; in both directions
    8 + floor(8 log_16(n / 8)) is 8 + the largest k with 2^k 8^2 <= n^2.
    """
    if not bidirectional:
        n = max(-distance, 0)
        if n < 16:
            return n
        return 16 + max(k for k in range(16) if 8**k * 16**16 <= n**16)
    n, first = abs(distance), 16 if distance > 0 else 0
    if n < 8:
        return first + n
    return first + 8 + max(k for k in range(8) if 2**k * 64 <= n**2)


def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(p, layer, x, source, heads, bias=None, extra=None):
    """Rows x [T,D] attend to rows source [S,D]; bias [H,T,S]; extra: keys and values [P,H,K]."""
    q, k, v = (
        (rows @ p[name]["kernel"][layer].astype(np.float64)).reshape(len(rows), heads, -1)
        for name, rows in (("query", x), ("key", source), ("value", source))
    )
    outputs = []
    for h in range(heads):
        scores, values = q[:, h] @ k[:, h].T, v[:, h]
        if bias is not None:
            scores = scores + bias[h]
        if extra is not None:
            scores = np.concatenate([scores, q[:, h] @ extra[0][:, h].T], 1)
            values = np.concatenate([values, extra[1][:, h]])
        outputs.append(softmax(scores) @ values)
    return np.concatenate(outputs, 1) @ p["out"]["kernel"][layer]


def mlp(p, layer, x):
    if "wi" in p:  # T5 1.0
        hidden = np.maximum(x @ p["wi"]["kernel"][layer], 0)
    else:
        hidden = gelu(x @ p["wi_0"]["kernel"][layer]) * (x @ p["wi_1"]["kernel"][layer])
    return hidden @ p["wo"]["kernel"][layer]


def position_bias(table, length, bidirectional):
    bias = np.zeros((len(table), length, length))
    for query in range(length):
        for key in range(length):
            bias[:, query, key] = table[:, bucket(key - query, bidirectional)]
            if key > query and not bidirectional:
                bias[:, query, key] = -np.inf
    return bias


def encode(theta, tokens, prompt=None, extra=None, sees_input=True):
    """Token ids -> states [P+T,D]. prompt: rows [P,D] in front of the embedded tokens, which see
    them; sees_input: False hides the tokens from the rows. extra:
    {"encoder_self": (keys, values)}, each [L,P,H,K]."""
    p, extra = theta["encoder"], extra or {}
    x = theta["token_embedder"]["embedding"][tokens].astype(np.float64)
    if prompt is not None:
        x = np.concatenate([prompt, x])
    table = p["relpos_bias"]["rel_embedding"]
    bias, layers = position_bias(table, len(x), True), p["layers"]
    if prompt is not None and not sees_input:
        bias[:, : len(prompt), len(prompt) :] = -np.inf
    for i in range(len(layers["pre_mlp_layer_norm"]["scale"])):
        y = norm(x, layers["pre_attention_layer_norm"]["scale"][i])
        own = [a[i] for a in extra["encoder_self"]] if "encoder_self" in extra else None
        x = x + attention(layers["attention"], i, y, y, len(table), bias, own)
        x = x + mlp(layers["mlp"], i, norm(x, layers["pre_mlp_layer_norm"]["scale"][i]))
    return norm(x, p["encoder_norm"]["scale"])


def decode(theta, states, tokens, extra=None):
    """Decoder input ids over encoder states -> logits [U,V]."""
    p, extra = theta["decoder"], extra or {}
    x = theta["token_embedder"]["embedding"][tokens].astype(np.float64)
    table = p["relpos_bias"]["rel_embedding"]
    bias, layers = position_bias(table, len(x), False), p["layers"]
    for i in range(len(layers["pre_mlp_layer_norm"]["scale"])):
        y = norm(x, layers["pre_self_attention_layer_norm"]["scale"][i])
        own = [a[i] for a in extra["decoder_self"]] if "decoder_self" in extra else None
        x = x + attention(layers["self_attention"], i, y, y, len(table), bias, own)
        y = norm(x, layers["pre_cross_attention_layer_norm"]["scale"][i])
        own = [a[i] for a in extra["decoder_cross"]] if "decoder_cross" in extra else None
        cross = layers["encoder_decoder_attention"]
        x = x + attention(cross, i, y, states, len(table), None, own)
        x = x + mlp(layers["mlp"], i, norm(x, layers["pre_mlp_layer_norm"]["scale"][i]))
    x = norm(x, p["decoder_norm"]["scale"])
    if "logits_dense" in p:
        return x @ p["logits_dense"]["kernel"]
    return x @ theta["token_embedder"]["embedding"].T.astype(np.float64) / math.sqrt(x.shape[1])


def logits(theta, inputs, targets, prompt=None, extra=None, sees_input=True):
    """Teacher-forced logits [U,V] of one example: input ids, decoder input ids."""
    return decode(theta, encode(theta, inputs, prompt, extra, sees_input), targets, extra)
