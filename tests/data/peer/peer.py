"""The published code of MHA2MLA-VLM (repository JT-Ushio/MHA2MLA-VLM), imported where it lies. Nothing
of it is here: this file only gives it what it imports and does not need for its maths.

    peer = open_peer("path/to/a/clone", "llava")  # or "llavanext", "qwen2_5_vl": its folder
    peer.patch_model, peer.load_evaluation(directory), peer.code_run_svd_init.main, ...

Its three folders have modules of the same names: a process opens one of them.
Stand-ins, all without maths: ms-swift (the base class of the trainings, data sets, loggers), peft,
decord, loguru and the parts of lmms_eval that only register a model. `.cuda()` does nothing.
"""
import collections
import contextlib
import importlib
import importlib.machinery
import os
import subprocess
import sys
import types

import torch
import transformers
from transformers import (LlavaForConditionalGeneration, LlavaNextForConditionalGeneration,
                          Qwen2_5_VLForConditionalGeneration)
from transformers.models.llama import modeling_llama
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

COMMIT = "69a3c6e3116c6b628f438be1f057bf1efa2c363f"

# of a folder: transformers' class; module and class of its scorer; modules and functions that patch
# transformers for stage 1 and 2; and what these replace: methods `forward` of classes, and a function
Folder = collections.namedtuple("Folder", "model scorer stage1 stage2 classes module rotary")
LLAMA = (modeling_llama.LlamaAttention, modeling_llama.LlamaDecoderLayer, modeling_llama.LlamaModel,
         modeling_llama.LlamaForCausalLM)


def llava_folder(model):
    return Folder(model, ("llava_hf", "LlavaHf"), ("patching_llama_stage1", "mha2mla_llama"),
                  ("patching_llama_stage2", "mha2mla_llama_stage2_mutlimodal"), LLAMA + (model,), modeling_llama,
                  "apply_rotary_pos_emb")


FOLDERS = {
    "llava": llava_folder(LlavaForConditionalGeneration),
    "llavanext": llava_folder(LlavaNextForConditionalGeneration),
    "qwen2_5_vl": Folder(
        Qwen2_5_VLForConditionalGeneration, ("qwen2_5_vl", "Qwen2_5_VL"), ("patching_qwenvl_stage1", "mha2mla_qwenvl"),
        ("patching_qwenvl_stage2", "mha2mla_qwenvl_stage2_mutlimodal"),
        (modeling_qwen2_5_vl.Qwen2_5_VLSdpaAttention, modeling_qwen2_5_vl.Qwen2_5_VLDecoderLayer,
         modeling_qwen2_5_vl.Qwen2_5_VLModel, Qwen2_5_VLForConditionalGeneration), modeling_qwen2_5_vl,
        "apply_multimodal_rotary_pos_emb"),
}


class Anything:
    """Stands where a class or an object is named and not used."""

    def __init__(self, *args, **more):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **more: None


class FakeSwiftSft:
    def __init__(self, args):
        self.args = args


def fake_modules(names):
    for name in names:
        parts = name.split(".")
        for i in range(len(parts)):
            path = ".".join(parts[: i + 1])
            if path not in sys.modules:
                sys.modules[path] = types.ModuleType(path)
                sys.modules[path].__spec__ = importlib.machinery.ModuleSpec(path, None)
                if i:
                    setattr(sys.modules[".".join(parts[:i])], parts[i], sys.modules[path])


def put(module, **names):
    for k, v in names.items():
        setattr(sys.modules[module], k, v)


class Peer:
    def __init__(self, clone, folder):
        head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True)
        assert head.stdout.strip() == COMMIT, f"{clone} is at {head.stdout.strip()}, needed is {COMMIT}"
        self.folder = FOLDERS[folder]
        fake_modules(["swift.llm.argument", "swift.llm.train", "swift.llm.template.base", "swift.trainers",
                      "swift.llm.template.template.qwen", "swift.utils", "swift.plugin.optimizer", "decord",
                      "loguru", "peft", "lmms_eval.utils", "lmms_eval.api.instance", "lmms_eval.api.model",
                      "lmms_eval.api.registry", "lmms_eval.models.model_utils.load_video"])
        put("swift.llm", load_dataset=None, get_template=None, get_model_tokenizer=None, to_device=None)
        put("swift.llm.argument", TrainArguments=type("TrainArguments", (), {}))
        put("swift.llm.train", SwiftSft=FakeSwiftSft)
        put("swift.llm.template.base", Template=type("Template", (), {}))
        put("swift.llm.template.template.qwen", Qwen2VLTemplate=type("Qwen2VLTemplate", (), {}))
        put("swift.trainers", Seq2SeqTrainer=Anything, TrainingArguments=Anything)
        put("swift.utils", get_logger=Anything, get_model_parameter_info=None, is_deepspeed_enabled=None,
            get_dist_setting=lambda: (0, 0, 1, 1))
        put("swift.plugin.optimizer", optimizers_map={})
        put("peft", PeftModel=type("PeftModel", (), {}))
        put("decord", VideoReader=Anything, cpu=Anything)
        put("loguru", logger=Anything())
        put("lmms_eval.api.instance", Instance=Anything)
        put("lmms_eval.api.model", lmms=type("lmms", (), {}))
        put("lmms_eval.api.registry", register_model=lambda *names: lambda cls: cls)
        put("lmms_eval.models.model_utils.load_video", read_video_pyav_base64=None)
        torch.nn.Module.cuda = lambda self, *a, **k: self
        torch.Tensor.cuda = lambda self, *a, **k: self
        sys.path.insert(0, os.path.join(clone, "src/mha2mla-vlm", folder))
        sys.path.insert(0, os.path.join(clone, "lmms-eval/lmms_eval/models"))
        f = self.folder
        with quiet():
            for name in ("patch_func", "patching_model_load", f.stage1[0], f.stage2[0], "lr_scheduler", "utils",
                         "arguments", "train_stage1", "train_stage2", "run_svd_init", f.scorer[0]):
                setattr(self, "code_" + name, importlib.import_module(name))
        self.patch_model = self.code_patching_model_load.patch_model
        self.patch_stage2 = self.code_patching_model_load.patch_model_stage2_multimodal
        self.mha2mla_stage1 = getattr(sys.modules[f.stage1[0]], f.stage1[1])
        self.mha2mla_stage2 = getattr(sys.modules[f.stage2[0]], f.stage2[1])
        scorer = sys.modules[f.scorer[0]]
        scorer.AutoProcessor = scorer.AutoTokenizer = types.SimpleNamespace(
            from_pretrained=lambda *a, **k: types.SimpleNamespace(tokenizer=types.SimpleNamespace()))
        self.forwards = [c.forward for c in f.classes]
        self.rotary = getattr(f.module, f.rotary)

    @contextlib.contextmanager
    def patched(self):
        """The published code replaces methods of transformers for good; here until the block ends."""
        try:
            with quiet():
                yield
        finally:
            for cls, forward in zip(self.folder.classes, self.forwards):
                cls.forward = forward
            setattr(self.folder.module, self.folder.rotary, self.rotary)

    def arguments(self, **more):
        """The settings as its own dataclass makes and checks them."""
        return self.code_arguments.MHA2MLAModelArguments(**more)

    def load_stage2_training(self, base, args):
        """Its way from a stage-1 checkpoint into the model that stage 2 trains."""
        job = self.code_train_stage2.LlavaMLASFT(types.SimpleNamespace(torch_dtype=torch.float32), args)
        base.model_info = None
        return job._mha2mla(base)

    def load_evaluation(self, directory):
        """Its way from a checkpoint of either stage into the model that is evaluated."""
        scorer = getattr(sys.modules[self.folder.scorer[0]], self.folder.scorer[1])
        return scorer(pretrained=directory, device="cpu", device_map="")._model.eval()


@contextlib.contextmanager
def quiet():
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        yield


def open_peer(clone, folder="llava"):
    transformers.logging.set_verbosity_error()
    return Peer(os.path.abspath(clone), folder)
