"""A model converted to multi-head latent attention, for transformers (4.57 and 5.x):

    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    model = AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)          # text
    model = AutoModelForImageTextToText.from_pretrained(DIR, trust_remote_code=True)   # text and pictures

Everything is transformers' own class of the model except the attention of the decoder's layers. Per head,
dr dims are rotated as before, of pairs that differ from head to head; the other dims of the keys, and the
values, come from a latent that all heads share:

    k_r = rotate(k_r_proj x)    [K, dr]     c = down x    [r]
    k_c = up_k c                [G, dc]     v = up_v c    [G, dh]

In the cross-head basis one rotated key serves all heads, K = 1, of components of all heads' keys, several of
which may turn at one frequency; beside it each head has an unrotated key of its full size, dc = dh.

down, up_k and up_v may be of the token's modality, kv_proj_img and kv_proj_text, or shared, kv_proj. Cached
per token and layer are k_r and c (what is not compressed, as it is), in a LatentCache. One new token
attends absorbed: up_k goes into its query and up_v behind the sum of latents, so that no key and no value
is ever formed; for several new tokens at a time they are, which costs less then.

Of config.json's "mha2mla", "rope_pairs" [L][K][dr/2] are the pairs whose frequencies the rotated dims have
(of one key for all heads, dr may differ by layer), "rope_basis" is "cross" for one key, "latents" [L] has each
layer's r where they differ, and "modeling" says
    method         none, joint (one latent for keys and values), split (one each), only_key, only_value
    latent         r; 0 with none
    decoupled      whether each modality has its own factors
    image_tokens   ids of the tokens whose modality is image; all others are text

Letters: B sequences, T new tokens, S tokens with those in the cache, H query heads, G kv heads, N = H/G,
K rotated keys, dh head size, dr rotated dims of a key, dc unrotated ones: K = G and dc = dh - dr, but for the
cross-head basis."""
import inspect

import torch
from torch import nn
from transformers import (
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    MistralForCausalLM,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2ForCausalLM,
    Qwen2VLForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache, DynamicLayer

# What the cache is called in calls of forward: past_key_values, later cache.
_forward = inspect.signature(inspect.unwrap(LlamaForCausalLM.forward)).parameters
CACHE = "cache" if "cache" in _forward else "past_key_values"

# What carries the modality of the new tokens, image [B, T], from the pre-hook below to every layer.
IMAGE = "mha2mla_image"

# Whether unrotated keys come from a latent, whether values do, and whether from the same one.
METHODS = {
    "none": (False, False, False),
    "joint": (True, True, True),
    "split": (True, True, False),
    "only_key": (True, False, False),
    "only_value": (False, True, False),
}


# ---- the cache ----


class LatentLayer(DynamicLayer):
    """One layer's cache: keys [B, K, S, dr] rotated, values [B, 1, S, w] latents, or what is not
    compressed. Layer 0 also has the modality of each token, image [B, S], for all layers."""

    image = None

    def mark(self, image):
        self.image = image if self.image is None else torch.cat([self.image, image.to(self.image.device)], -1)

    def _follow(self, change):
        """The same change of the marks as of keys and values."""
        if self.image is not None:
            self.image = change(self.image)

    def crop(self, *args, **kwargs):
        super().crop(*args, **kwargs)
        self._follow(lambda image: image[:, : self.get_seq_length()])

    def reset(self):
        super().reset()
        self._follow(lambda image: image if self.is_initialized else None)

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self._follow(lambda image: image.index_select(0, beam_idx.to(image.device)))

    def batch_repeat_interleave(self, repeats):
        super().batch_repeat_interleave(repeats)
        self._follow(lambda image: image.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self._follow(lambda image: image[indices])


class LatentCache(DynamicCache):
    def __init__(self):
        super().__init__()
        self.layer_class_to_replicate = LatentLayer

    def nbytes(self):
        """Of keys and latents; beside them, there is a byte a token for the modality."""
        held = [t for layer in self.layers if layer.get_seq_length() for t in (layer.keys, layer.values)]
        return sum(t.numel() * t.element_size() for t in held)


def latent_cache(cache):
    """A LatentCache in place of an empty cache as `generate` makes it."""
    if isinstance(cache, LatentCache):
        return cache
    if type(cache) is not DynamicCache or cache.get_seq_length() or getattr(cache, "offloading", False):
        raise TypeError(
            f"{type(cache).__name__}: a model with latent attention needs a LatentCache; leave "
            "cache_implementation unset, and give no cache of another kind"
        )
    return LatentCache()


# ---- attention ----


class Factors(nn.Module):
    """down [r, d], up_k [G*dc, r or d], up_v [G*dh, r or d], of one modality or of all."""

    def __init__(self, d, keys, values, method, latent, bias):
        super().__init__()
        key, value, joint = METHODS[method]
        for name, there in (("down_kv", joint), ("down_k", key and not joint), ("down_v", value and not joint)):
            if there:
                setattr(self, name, nn.Linear(d, latent, bias=False))
        self.up_k = nn.Linear(latent if key else d, keys, bias=bias)
        self.up_v = nn.Linear(latent if value else d, values, bias=bias)


def rotate(x, cos, sin):
    """x [..., dr], whose pairs are the dims i and i + dr/2; cos and sin [..., dr/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def grouped(weight, groups):
    """[G * n, r] as [G, n, r]."""
    return weight.view(groups, -1, weight.shape[-1])


class LatentAttention(nn.Module):
    """In place of `was`, an attention of transformers', of which it keeps o_proj. The rows of q_proj are
    the rotated dims of all heads and then the others."""

    def __init__(self, was, config, section):
        super().__init__()
        how, bias = section["modeling"], was.k_proj.bias is not None
        self.config, self.layer_idx, self.scaling = config, was.layer_idx, was.scaling
        self.o_proj = was.o_proj
        self.pairs, self.index = section["rope_pairs"][was.layer_idx], None
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.keys, self.dh, self.dr = len(self.pairs), was.head_dim, 2 * len(self.pairs[0])
        self.dc = self.dh - (0 if section.get("rope_basis") == "cross" else self.dr)
        self.method, self.latent = how["method"], how["latent"]
        if self.latent and section.get("latents"):
            self.latent = section["latents"][was.layer_idx]
        d, keys, values = config.hidden_size, self.groups * self.dc, self.groups * self.dh
        self.q_proj = nn.Linear(d, self.heads * (self.dr + self.dc), bias=was.q_proj.bias is not None)
        self.k_r_proj = nn.Linear(d, self.keys * self.dr, bias=bias)
        for name in ("kv_proj_text", "kv_proj_img") if how["decoupled"] else ("kv_proj",):
            setattr(self, name, Factors(d, keys, values, self.method, self.latent, bias))
        self.decoupled = how["decoupled"]

    def sets(self):
        return [self.kv_proj_text, self.kv_proj_img] if self.decoupled else [self.kv_proj]

    def through(self, name, x, image):
        """x [B, T, in] through each token's own factor: [B, T, out]."""
        y = [getattr(s, name)(x) for s in self.sets()]
        return y[0] if len(y) == 1 else torch.where(image[..., None], y[1], y[0])

    def tables(self, cos, sin):
        """cos and sin of transformers [B, T, dh], or [3, B, T, dh] where positions have three axes, of
        the rotated keys' pairs: [B, T, K, dr/2]."""
        if self.index is None or self.index.device != cos.device:
            self.index = torch.tensor(self.pairs, device=cos.device)
        out = []
        for table in (cos, sin):
            table = table[..., : self.dh // 2]
            if table.ndim == 4:  # which pairs each axis rotates
                rope = getattr(self.config, "rope_parameters", None) or self.config.rope_scaling
                parts = table.split(rope["mrope_section"], dim=-1)
                table = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)
            out.append(table[..., self.index])
        return out

    def query(self, x, cos, sin):
        """[B, G, N, T, dr] and [B, G, N, T, dc]."""
        q = self.q_proj(x)
        cut = self.heads * self.dr
        shape = (*x.shape[:2], self.groups, self.heads // self.groups, -1)
        q_r = rotate(q[..., :cut].reshape(shape), cos[..., None, :], sin[..., None, :])
        q_c = q[..., cut:].reshape(shape) if self.dc else q.new_empty(*shape[:-1], 0)
        return q_r.permute(0, 2, 3, 1, 4), q_c.permute(0, 2, 3, 1, 4)

    def to_cache(self, x, cos, sin, image):
        """What is cached of new tokens: [B, K, T, dr], and [B, 1, T, w]."""
        key, value, joint = METHODS[self.method]
        k_r = self.k_r_proj(x).view(*x.shape[:2], self.keys, self.dr)
        names = ["down_kv"] if joint else ["down_k" if key else "up_k", "down_v" if value else "up_v"]
        rest = torch.cat([self.through(name, x, image) for name in names], dim=-1)
        return rotate(k_r, cos, sin).transpose(1, 2), rest[:, None]

    def split(self, rest):
        """Of the cache [B, 1, S, w] the part for keys and that for values: [B, S, .]."""
        key, _, joint = METHODS[self.method]
        rest = rest[:, 0]
        cut = self.latent if key else self.groups * self.dc
        return (rest, rest) if joint else (rest[..., :cut], rest[..., cut:])

    def formed(self, q_r, q_c, k_r, for_k, for_v, image, mask):
        """Attention over keys and values that are formed for it: [B, H, T, dh]."""
        key, value, _ = METHODS[self.method]
        B, S = for_v.shape[:2]
        k_c = self.through("up_k", for_k, image) if key else for_k
        v = self.through("up_v", for_v, image) if value else for_v
        k_c = k_c.view(B, S, self.groups, self.dc).transpose(1, 2)
        k = torch.cat([k_r.expand(-1, self.groups, -1, -1), k_c], dim=-1)
        k, v = (
            t.repeat_interleave(self.heads // self.groups, dim=1)
            for t in (k, v.view(B, S, self.groups, self.dh).transpose(1, 2))
        )
        q = torch.cat([q_r, q_c], dim=-1).flatten(1, 2)
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scaling)

    def absorbed(self, q_r, q_c, k_r, for_k, for_v, image, mask):
        """The same over what is cached: [B, H, T, dh]."""
        key, value, _ = METHODS[self.method]
        G, (B, S) = self.groups, for_v.shape[:2]
        pick = image[:, None, None, None, :] if self.decoupled else None  # of keys: [B, 1, 1, 1, S]
        scores = q_r @ k_r[:, :, None].transpose(-1, -2)  # [B, G, N, T, S]
        if key and self.dc:
            by = []
            for s in self.sets():
                # (q_c up_k) c + q_c b
                q = torch.einsum("bgntc,gcr->bgntr", q_c, grouped(s.up_k.weight, G))
                by.append(q @ for_k[:, None, None].transpose(-1, -2))
                if s.up_k.bias is not None:
                    by[-1] = by[-1] + torch.einsum("bgntc,gc->bgnt", q_c, s.up_k.bias.view(G, -1))[..., None]
            scores = scores + (by[0] if len(by) == 1 else torch.where(pick, by[1], by[0]))
        elif self.dc:
            scores = scores + q_c @ for_k.view(B, S, G, 1, -1).permute(0, 2, 3, 4, 1)
        scores = scores.float() * self.scaling
        if mask is not None:
            mask = mask[:, :, None]  # [B, 1, 1, T, S]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        p = scores.softmax(dim=-1).to(q_r.dtype)
        if not value:
            return (p @ for_v.view(B, S, G, 1, -1).permute(0, 2, 3, 1, 4)).flatten(1, 2)
        out = 0
        for s, own in zip(self.sets(), (p,) if pick is None else (p * ~pick, p * pick)):
            sums = own @ for_v[:, None, None]  # [B, G, N, T, r]
            out = out + torch.einsum("bgntr,gvr->bgntv", sums, grouped(s.up_v.weight, G))
            if s.up_v.bias is not None:
                out = out + own.sum(-1, keepdim=True) * s.up_v.bias.view(1, G, 1, 1, -1)
        return out.flatten(1, 2)

    def mask(self, mask, T, S, device):
        """transformers' mask [B, 1, T, S], which may be left out where it is only causal."""
        if mask is None:
            if T == 1:
                return None
            return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)[None, None]
        if not torch.is_tensor(mask) or mask.ndim != 4:
            raise ValueError('latent attention needs attn_implementation="sdpa" or "eager"')
        return mask[..., :S]

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, **kwargs):
        x, image, cache = hidden_states, kwargs.get(IMAGE), kwargs.get(CACHE)
        image = image if image is None else image.to(x.device)
        cos, sin = self.tables(*position_embeddings)
        q_r, q_c = self.query(x, cos, sin)
        k_r, rest = self.to_cache(x, cos, sin, image)
        if cache is not None:
            if not isinstance(cache, LatentCache):
                raise TypeError(f"{type(cache).__name__}: latent attention needs a LatentCache")
            k_r, rest = cache.update(k_r, rest, self.layer_idx)
            if self.decoupled:
                if self.layer_idx == 0:
                    cache.layers[0].mark(image)
                image = cache.layers[0].image.to(x.device)
        T, S = x.shape[1], k_r.shape[2]
        mask = self.mask(attention_mask, T, S, x.device)
        attend = self.absorbed if T == 1 else self.formed
        o = attend(q_r, q_c, k_r, *self.split(rest), image, mask)
        return self.o_proj(o.transpose(1, 2).reshape(*x.shape[:2], -1)), None


# ---- the models ----

# Names of tensors before transformers 4.52, which the files keep, and their names in the classes.
TEXT_NAMES = {}
LLAVA_NAMES = {
    r"^language_model\.model\.": "model.language_model.",
    r"^language_model\.lm_head\.": "lm_head.",
    r"^vision_tower\.": "model.vision_tower.",
    r"^multi_modal_projector\.": "model.multi_modal_projector.",
    r"^image_newline": "model.image_newline",
}
QWEN_NAMES = {
    r"^visual\.": "model.visual.",
    r"^model\.(?!language_model\.|visual\.)": "model.language_model.",
}


class Before:
    """Before a forward pass of the model: notes each token's modality, and gives the decoder its cache."""

    def __init__(self, config, how):
        self.config, self.how = config, how

    def __call__(self, model, args, kwargs):
        if kwargs.get("pixel_values_videos") is not None:
            raise NotImplementedError("videos: the model was converted for texts and pictures")
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self.how["decoupled"]:
            if ids is None:
                raise ValueError("input_ids: needed, since they say which tokens are of pictures")
            kwargs[IMAGE] = torch.isin(ids, torch.tensor(self.how["image_tokens"], device=ids.device))
        use, cache = kwargs.get("use_cache"), kwargs.get(CACHE)
        if cache is None and (self.config.use_cache if use is None else use):
            kwargs[CACHE] = LatentCache()
        elif cache is not None:
            kwargs[CACHE] = latent_cache(cache)
        return args, kwargs


class Latent:
    """What the classes below have beside transformers' own."""

    _supports_flash_attn = _supports_flex_attn = False
    _auto_class, _names = "AutoModelForImageTextToText", TEXT_NAMES

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        section = getattr(config, "mha2mla", None) or {}
        if not {"rope_pairs", "modeling"} <= section.keys():
            raise ValueError("config.json: mha2mla: not of a model that was saved for this class")
        decoder = getattr(self.model, "language_model", self.model)
        for layer in decoder.layers:
            layer.self_attn = LatentAttention(layer.self_attn, decoder.config, section)
        self.model.register_forward_pre_hook(Before(decoder.config, section["modeling"]), with_kwargs=True)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        config = kwargs.get("config")
        if config is not None and not hasattr(config, "mha2mla"):
            # transformers takes this class for all models of the kind, once it has opened one with it
            return cls.__bases__[1].from_pretrained(*args, **kwargs)
        if cls._names:
            kwargs.setdefault("key_mapping", dict(cls._names))
        return super().from_pretrained(*args, **kwargs)


class Mha2mlaLlamaForCausalLM(Latent, LlamaForCausalLM):
    _auto_class = "AutoModelForCausalLM"


class Mha2mlaMistralForCausalLM(Latent, MistralForCausalLM):
    _auto_class = "AutoModelForCausalLM"


class Mha2mlaQwen2ForCausalLM(Latent, Qwen2ForCausalLM):
    _auto_class = "AutoModelForCausalLM"


class Mha2mlaLlavaForConditionalGeneration(Latent, LlavaForConditionalGeneration):
    _names = LLAVA_NAMES


class Mha2mlaLlavaNextForConditionalGeneration(Latent, LlavaNextForConditionalGeneration):
    _names = LLAVA_NAMES


class Mha2mlaQwen2VLForConditionalGeneration(Latent, Qwen2VLForConditionalGeneration):
    _names = QWEN_NAMES


class Mha2mlaQwen2_5_VLForConditionalGeneration(Latent, Qwen2_5_VLForConditionalGeneration):
    _names = QWEN_NAMES
