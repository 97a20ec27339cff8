"""Networks of other packages, with random weights, and small examples for them. Needs the packages named.

Where a package lets one choose, they are built small, in the proportions of the published ones: of a transformer the
layers that feed forward are four times as wide as its tokens, and its tables of words and places are no larger than its
layers.
"""

import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


class NotInstalled(Exception):
    """A package that a model needs is not there."""


def of(path: str, *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    """A function that builds `package.module:name` with these arguments, or with what they build."""

    def build():
        module, _, name = path.partition(":")
        made = importlib.import_module(module)
        for part in name.split("."):
            made = getattr(made, part)
        given = [each() if callable(each) else each for each in args]
        return made(*given, **{key: each() if callable(each) else each for key, each in kwargs.items()})

    return build


def image(side: int = 64, channels: int = 3, count: int = 2, dimensions: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, *[side] * dimensions)


def ids(length: int = 12, most: int = 90) -> torch.Tensor:
    return torch.randint(most, (2, length))


def tv(name, side=64, **kwargs):
    return of(f"torchvision.models:{name}", weights=None, **kwargs), lambda: image(side)


def timm(name, side=64, **kwargs):
    return of("timm:create_model", name, pretrained=False, **kwargs), lambda: image(side)


def hf(name, config, example, **options):
    return of(f"transformers:{name}", of(f"transformers:{config}", **options)), example


def smp(name, encoder):
    kwargs = {"encoder_name": encoder, "encoder_weights": None}
    return of(f"segmentation_models_pytorch:{name}", **kwargs), lambda: image(64)


def monai(name, example, **kwargs):
    return of(f"monai.networks.nets:{name}", **kwargs), example


def yolo(name, side=64):
    return of("ultralytics.nn.tasks:DetectionModel", name, verbose=False), lambda: image(side)


def graph():
    return torch.randn(10, 8), torch.randint(10, (2, 30))


def tokens_and_mask():
    return {"input_ids": ids(), "attention_mask": torch.ones(2, 12, dtype=torch.long)}


def space():
    import gymnasium
    import numpy as np

    return gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)


def box():
    import gymnasium

    return gymnasium.spaces.Box(-1.0, 1.0, (6,))


def resnet_fpn():
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    return resnet_fpn_backbone(backbone_name="resnet18", weights=None)


class Sequence_(nn.Module):
    """A recurrent layer of torch itself, and a linear one that reads its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TEXT = {**SMALL, "vocab_size": 100, "max_position_embeddings": 32}
PICTURE = {**SMALL, "image_size": 32, "patch_size": 8}

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    **{
        f"tv.{name}": tv(name)
        for name in (
            "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s mnasnet1_0 "
            "mobilenet_v3_large mobilenet_v3_small regnet_x_400mf resnet18 resnet50 resnext50_32x4d "
            "shufflenet_v2_x1_0 squeezenet1_1 swin_t swin_v2_t vgg11 vgg16_bn wide_resnet50_2"
        ).split()
    },
    "tv.googlenet": tv("googlenet", init_weights=False),
    "tv.inception_v3": tv("inception_v3", 128, init_weights=False),
    "tv.VisionTransformer(small)": (
        of("torchvision.models:VisionTransformer", 32, 8, 2, 4, 32, 128, num_classes=10),
        lambda: image(32),
    ),
    "tv.deeplabv3_mobilenet_v3_large": tv("segmentation.deeplabv3_mobilenet_v3_large", weights_backbone=None),
    "tv.fcn_resnet50": tv("segmentation.fcn_resnet50", weights_backbone=None),
    "tv.lraspp_mobilenet_v3_large": tv("segmentation.lraspp_mobilenet_v3_large", weights_backbone=None),
    "tv.r2plus1d_18": (
        of("torchvision.models.video:r2plus1d_18", weights=None),
        lambda: torch.randn(2, 3, 4, 32, 32),
    ),
    "tv.r3d_18": (of("torchvision.models.video:r3d_18", weights=None), lambda: torch.randn(2, 3, 4, 32, 32)),
    "tv.raft_small": (
        of("torchvision.models.optical_flow:raft_small", weights=None),
        lambda: (image(128, count=1), image(128, count=1)),
    ),
    "tv.resnet18_fpn(FrozenBN)": (resnet_fpn, lambda: image(64)),
    **{
        f"timm.{name}": timm(name)
        for name in (
            "convmixer_768_32 convnextv2_atto cspresnet50 dla34 dpn68 eca_nfnet_l0 edgenext_xx_small ese_vovnet19b_dw "
            "fastvit_t8 ghostnet_100 hrnet_w18_small mobilenetv4_conv_small mobilevit_xxs poolformer_s12 pvt_v2_b0 "
            "regnety_004 repghostnet_050 repvgg_a0 res2net50_26w_4s resnest14d resnetv2_50 seresnet50 skresnet18 "
            "tf_efficientnet_b0 tf_efficientnet_lite0"
        ).split()
    },
    "timm.deit_tiny": timm("deit_tiny_patch16_224", img_size=64),
    "timm.mixer_s32_224": timm("mixer_s32_224", img_size=64),
    "timm.xcit_nano": timm("xcit_nano_12_p16_224", 64),
    "smp.FPN(resnet18)": smp("FPN", "resnet18"),
    "smp.Linknet(resnet18)": smp("Linknet", "resnet18"),
    "smp.MAnet(resnet18)": smp("MAnet", "resnet18"),
    "smp.PSPNet(resnet18)": smp("PSPNet", "resnet18"),
    "smp.Unet(resnet18)": smp("Unet", "resnet18"),
    "smp.UnetPlusPlus(mobilenet_v2)": smp("UnetPlusPlus", "mobilenet_v2"),
    "smp.DeepLabV3Plus(resnet18)": smp("DeepLabV3Plus", "resnet18"),
    "monai.AttentionUnet2d": monai(
        "AttentionUnet",
        lambda: image(32, 1),
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=(8, 16, 32),
        strides=(2, 2),
    ),
    "monai.BasicUNet2d": monai(
        "BasicUNet", lambda: image(64, 1), spatial_dims=2, in_channels=1, features=(16, 16, 32, 64, 64, 16)
    ),
    "monai.DenseNet3d": monai(
        "DenseNet",
        lambda: image(32, 1, dimensions=3),
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        init_features=16,
        growth_rate=8,
        block_config=(2, 2),
    ),
    "monai.DynUNet2d": monai(
        "DynUNet",
        lambda: image(32, 1),
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
    ),
    "monai.FullyConnectedNet": monai(
        "FullyConnectedNet", lambda: torch.randn(4, 10), in_channels=10, out_channels=3, hidden_channels=[64, 32]
    ),
    "monai.HighResNet2d": monai("HighResNet", lambda: image(32, 1), spatial_dims=2, in_channels=1, out_channels=2),
    "monai.SegResNet2d": monai("SegResNet", lambda: image(32, 1), spatial_dims=2, in_channels=1, out_channels=2),
    "monai.UNETR": monai(
        "UNETR",
        lambda: image(32, 1),
        in_channels=1,
        out_channels=2,
        img_size=(32, 32),
        spatial_dims=2,
        feature_size=8,
        hidden_size=48,
        mlp_dim=192,
        num_heads=4,
    ),
    "monai.UNet3d(batch)": monai(
        "UNet",
        lambda: image(16, 1, dimensions=3),
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(8, 16, 32),
        strides=(2, 2),
        num_res_units=2,
        norm="batch",
        act="relu",
    ),
    "monai.UNet3d(instance,PReLU)": monai(
        "UNet",
        lambda: image(16, 1, dimensions=3),
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(8, 16, 32),
        strides=(2, 2),
        num_res_units=2,
    ),
    "hf.BertModel": hf("BertModel", "BertConfig", tokens_and_mask, **TEXT),
    "hf.GPT2LMHeadModel": hf(
        "GPT2LMHeadModel",
        "GPT2Config",
        lambda: {"input_ids": ids()},
        vocab_size=100,
        n_embd=32,
        n_positions=32,
        n_layer=2,
        n_head=4,
        use_cache=False,
    ),
    "hf.LlamaForCausalLM": hf(
        "LlamaForCausalLM", "LlamaConfig", tokens_and_mask, **TEXT, num_key_value_heads=2, use_cache=False
    ),
    "hf.SegformerForSemanticSegmentation": hf(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        lambda: {"pixel_values": image(64)},
        hidden_sizes=[16, 32, 40, 64],
        depths=[1] * 4,
        decoder_hidden_size=32,
    ),
    "hf.T5EncoderModel": hf(
        "T5EncoderModel",
        "T5Config",
        tokens_and_mask,
        vocab_size=100,
        d_model=32,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        d_kv=8,
    ),
    "hf.ViTModel": hf("ViTModel", "ViTConfig", lambda: {"pixel_values": image(32)}, **PICTURE),
    "torch.nn.LSTM+Linear": (Sequence_, lambda: torch.randn(2, 7, 6)),
    "torchaudio.ConvTasNet": (
        of("torchaudio.models:ConvTasNet", enc_num_feats=32, msk_num_feats=16, msk_num_hidden_feats=32),
        lambda: torch.randn(2, 1, 800),
    ),
    "torchaudio.Conformer": (
        of("torchaudio.models:Conformer", 16, 4, 32, 2, 7),
        lambda: (torch.randn(2, 20, 16), torch.tensor([20, 20])),
    ),
    "torchaudio.DeepSpeech": (of("torchaudio.models:DeepSpeech", 16, n_hidden=32), lambda: torch.randn(2, 1, 20, 16)),
    "torchaudio.Wav2Letter": (of("torchaudio.models:Wav2Letter", 40), lambda: torch.randn(2, 1, 8000)),
    "torchaudio.WaveRNN": (
        of(
            "torchaudio.models:WaveRNN",
            [2, 2, 2],
            16,
            8,
            n_res_block=2,
            n_rnn=16,
            n_fc=16,
            n_freq=8,
            n_hidden=16,
            n_output=8,
        ),
        lambda: (torch.randn(2, 1, 80), torch.randn(2, 1, 8, 14)),
    ),
    "neuralop.FNO2d": (
        of("neuralop.models:FNO", n_modes=(6, 6), hidden_channels=16, in_channels=1, out_channels=1),
        lambda: image(16, 1),
    ),
    "deepxde.DeepONet": (
        of("deepxde.nn.pytorch:DeepONetCartesianProd", [20, 32, 32], [2, 32, 32], "relu", "Glorot normal"),
        lambda: ((torch.randn(6, 20), torch.randn(9, 2)),),
    ),
    "deepxde.FNN(tanh)": (
        of("deepxde.nn.pytorch:FNN", [3, 64, 64, 2], "tanh", "Glorot normal"),
        lambda: torch.randn(8, 3),
    ),
    "sb3.NatureCNN": (
        of("stable_baselines3.common.torch_layers:NatureCNN", space, 64),
        lambda: torch.rand(2, 3, 64, 64),
    ),
    "sb3.ActorCriticPolicy": (
        of("stable_baselines3.common.policies:ActorCriticPolicy", box, box, lr_schedule=lambda: lambda _: 1e-3),
        lambda: (torch.randn(4, 6), True),
    ),
    "pyg.GIN": (of("torch_geometric.nn:GIN", 8, 16, 3, 2), graph),
    "pyg.GCN": (of("torch_geometric.nn:GCN", 8, 16, 3, 2), graph),
    "pyg.GraphSAGE": (of("torch_geometric.nn:GraphSAGE", 8, 16, 3, 2), graph),
    "vit_pytorch.ViT": (
        of(
            "vit_pytorch:ViT",
            image_size=32,
            patch_size=8,
            num_classes=10,
            dim=32,
            depth=2,
            heads=4,
            dim_head=8,
            mlp_dim=128,
        ),
        lambda: image(32),
    ),
    "vit_pytorch.SimpleViT": (
        of(
            "vit_pytorch:SimpleViT",
            image_size=32,
            patch_size=8,
            num_classes=10,
            dim=32,
            depth=2,
            heads=4,
            dim_head=8,
            mlp_dim=128,
        ),
        lambda: image(32),
    ),
    "spandrel.NAFNet": (
        of(
            "spandrel.architectures.NAFNet.__arch.NAFNet_arch:NAFNet",
            width=16,
            enc_blk_nums=[1, 1],
            dec_blk_nums=[1, 1],
        ),
        lambda: image(32),
    ),
    "spandrel.RRDBNet(ESRGAN)": (
        of("spandrel.architectures.ESRGAN.__arch.RRDB:RRDBNet", num_filters=16, num_blocks=2),
        lambda: image(16),
    ),
    "efficientnet_pytorch.b0": (
        of("efficientnet_pytorch:EfficientNet.from_name", "efficientnet-b0"),
        lambda: image(64),
    ),
    "pretrainedmodels.se_resnet50": (of("pretrainedmodels:se_resnet50", pretrained=None), lambda: image(224)),
    "pretrainedmodels.xception": (of("pretrainedmodels:xception", pretrained=None), lambda: image(128)),
    "pytorchcv.igcv3_w1": (of("pytorchcv.model_provider:get_model", "igcv3_w1"), lambda: image(224, count=1)),
    "pytorchcv.preresnet18": (of("pytorchcv.model_provider:get_model", "preresnet18"), lambda: image(224, count=1)),
    "pytorchcv.pyramidnet110_a48_cifar10": (
        of("pytorchcv.model_provider:get_model", "pyramidnet110_a48_cifar10"),
        lambda: image(32),
    ),
    "ultralytics.yolo11n": yolo("yolo11n.yaml"),
    "ultralytics.yolov8n": yolo("yolov8n.yaml"),
    "ultralytics.yolov8n-cls": (
        of("ultralytics.nn.tasks:ClassificationModel", "yolov8n-cls.yaml", verbose=False),
        lambda: image(64),
    ),
}


def models(names: Sequence[str]) -> list[str]:
    """The models whose names begin like one of these; all without any."""
    return [name for name in MODELS if not names or name.lower().startswith(tuple(each.lower() for each in names))]


def built(name: str) -> tuple[nn.Module, Any]:
    """A model in use, and an example. NotInstalled where a package is not there."""
    _stand_in_for_compiled_operators()
    build, example = MODELS[name]
    try:
        return build().eval(), example()
    except ModuleNotFoundError as error:
        raise NotInstalled(f"{error.name} is not installed") from None


_LIBRARIES: list[torch.library.Library] = []


def _stand_in_for_compiled_operators() -> None:
    """Operators of torchvision that its package registers shapes for, where the compiled ones do not load: no model
    here calls them."""
    found = importlib.util.find_spec("torchvision")
    if found is None or _LIBRARIES:
        return
    folder = Path(found.submodule_search_locations[0])
    try:
        torch.ops.load_library(str(next(folder.glob("_C*.so"))))
        return
    except OSError:
        text = (folder / "_meta_registrations.py").read_text()
    names = set(re.findall(r"torchvision::(\w+)", text)) | set(re.findall(r'register_meta\("(\w+)"', text))
    _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in sorted(names):
        _LIBRARIES[0].define(f"{name}(Tensor x) -> Tensor")
