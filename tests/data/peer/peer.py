"""The published code of MHA2MLA-VLM (repository JT-Ushio/MHA2MLA-VLM), imported where it lies. Nothing
of it is here: this file only gives it what it imports and does not need for its maths.

    peer = open_peer("path/to/a/clone")
    peer.patch_model, peer.load_evaluation(directory), peer.code_run_svd_init.main, ...

Stand-ins, all without maths: ms-swift (the base class of the trainings, data sets, loggers), decord,
loguru and the parts of lmms_eval that only register a model. `.cuda()` does nothing.
"""
import contextlib
import importlib
import os
import subprocess
import sys
import types

import torch
import transformers
from transformers import LlavaForConditionalGeneration
from transformers.models.llama import modeling_llama

COMMIT = "69a3c6e3116c6b628f438be1f057bf1efa2c363f"


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
                if i:
                    setattr(sys.modules[".".join(parts[:i])], parts[i], sys.modules[path])


def put(module, **names):
    for k, v in names.items():
        setattr(sys.modules[module], k, v)


class Peer:
    def __init__(self, clone):
        head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True)
        assert head.stdout.strip() == COMMIT, f"{clone} is at {head.stdout.strip()}, needed is {COMMIT}"
        fake_modules(["swift.llm.argument", "swift.llm.train", "swift.trainers", "swift.utils",
                      "swift.plugin.optimizer", "decord", "loguru", "lmms_eval.utils",
                      "lmms_eval.api.instance", "lmms_eval.api.model", "lmms_eval.api.registry"])
        put("swift.llm", load_dataset=None, get_template=None, get_model_tokenizer=None)
        put("swift.llm.argument", TrainArguments=type("TrainArguments", (), {}))
        put("swift.llm.train", SwiftSft=FakeSwiftSft)
        put("swift.trainers", Seq2SeqTrainer=Anything, TrainingArguments=Anything)
        put("swift.utils", get_logger=Anything, get_model_parameter_info=None,
            get_dist_setting=lambda: (0, 0, 1, 1))
        put("swift.plugin.optimizer", optimizers_map={})
        put("decord", VideoReader=Anything, cpu=Anything)
        put("loguru", logger=Anything())
        put("lmms_eval.api.instance", Instance=Anything)
        put("lmms_eval.api.model", lmms=type("lmms", (), {}))
        put("lmms_eval.api.registry", register_model=lambda *names: lambda cls: cls)
        torch.nn.Module.cuda = lambda self, *a, **k: self
        torch.Tensor.cuda = lambda self, *a, **k: self
        sys.path.insert(0, os.path.join(clone, "src/mha2mla-vlm/llava"))
        sys.path.insert(0, os.path.join(clone, "lmms-eval/lmms_eval/models"))
        with quiet():
            for name in ("patch_func", "patching_model_load", "patching_llama_stage1",
                         "patching_llama_stage2", "lr_scheduler", "utils", "arguments", "train_stage1",
                         "train_stage2", "run_svd_init", "llava_hf"):
                setattr(self, "code_" + name, importlib.import_module(name))
        self.patch_model = self.code_patching_model_load.patch_model
        self.patch_stage2 = self.code_patching_model_load.patch_model_stage2_multimodal
        self.mha2mla_llama = self.code_patching_llama_stage1.mha2mla_llama
        self.mha2mla_stage2 = self.code_patching_llama_stage2.mha2mla_llama_stage2_mutlimodal
        self.code_llava_hf.AutoProcessor = types.SimpleNamespace(
            from_pretrained=lambda *a, **k: types.SimpleNamespace(tokenizer=types.SimpleNamespace()))
        self.classes = (modeling_llama.LlamaAttention, modeling_llama.LlamaDecoderLayer,
                        modeling_llama.LlamaModel, modeling_llama.LlamaForCausalLM,
                        LlavaForConditionalGeneration)
        self.forwards = [c.forward for c in self.classes]
        self.rotary = modeling_llama.apply_rotary_pos_emb

    @contextlib.contextmanager
    def patched(self):
        """The published code replaces methods of transformers for good; here until the block ends."""
        try:
            with quiet():
                yield
        finally:
            for cls, forward in zip(self.classes, self.forwards):
                cls.forward = forward
            modeling_llama.apply_rotary_pos_emb = self.rotary

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
        return self.code_llava_hf.LlavaHf(pretrained=directory, device="cpu")._model.eval()


@contextlib.contextmanager
def quiet():
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        yield


def open_peer(clone):
    transformers.logging.set_verbosity_error()
    return Peer(os.path.abspath(clone))
