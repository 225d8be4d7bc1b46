import copy
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics import FID, FeatureExtractor
from lightning_gen.metrics.extractors import hugging_face_files
from lightning_gen.metrics.extractors.clip import CLIP
from lightning_gen.metrics.extractors.dinov2 import DINOv2, original_positions

MEANS = {
    DINOv2: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),  # ImageNet's
    CLIP: ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),  # OpenAI's
}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def shaken(network):
    """The network with weights far enough from their initial values to matter, always the same."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator) + (p.ndim == 1))
    return network.eval()


@pytest.fixture(scope="module")
def dinov2(transformers, tmp_path_factory):
    """A small DINOv2 and its folder."""
    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224)
    network, folder = shaken(transformers.Dinov2Model(config)), tmp_path_factory.mktemp("dinov2")
    network.save_pretrained(folder)
    return network, folder


@pytest.fixture(scope="module")
def clip(transformers, tmp_path_factory):
    """A small CLIP, text included as in the published files, and its folder."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**small, "image_size": 48, "patch_size": 16, "projection_dim": 24},
        text_config={**small, "vocab_size": 50, "projection_dim": 24, "bos_token_id": 1, "eos_token_id": 2},
        projection_dim=24,
    )
    network, folder = shaken(transformers.CLIPModel(config)), tmp_path_factory.mktemp("clip")
    network.save_pretrained(folder)
    return network, folder


def normalised(images, cls):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in MEANS[cls])
    return (images / 255 - mean) / std


def smooth(height, width):
    """Images (2, 3, height, width) without sharp edges, as photographs are."""
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(x, size=(height, width), mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


def pil_bicubic(x, size):
    """(B, 3, H, W) uint8 resized by PIL, as float32."""
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in x]
    resized = [np.array(image.resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()


def test_dinov2_is_the_class_token_of_transformers(dinov2):
    network, folder = dinov2
    e, x = DINOv2(str(folder)), smooth(64, 48)
    assert (e.name, e.num_features, FID(e).name) == ("dinov2_32", 32, "fid_dinov2_32")
    found = e(x).pooled
    resized = F.interpolate(x.float(), size=(224, 224), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = network(normalised(resized, DINOv2)).last_hidden_state[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.mean(1).abs().max() < 1  # after the last normalisation
    torch.testing.assert_close(e(x[:, :1]).pooled, e(x[:, :1].repeat(1, 3, 1, 1)).pooled)


def test_dinov2_positions_follow_its_authors():
    g = torch.Generator().manual_seed(0)
    positions = torch.randn(1, 1 + 37**2, 5, generator=g)
    found = original_positions(positions, 16)
    assert found.shape == (1, 1 + 16**2, 5)
    assert torch.equal(found[:, 0], positions[:, 0])
    # a plane over the grid tells at which input coordinate an output was read: (i + 1/2) 37 / 16.1 - 1/2. (This cubic
    # keeps planes to 0.06; with 16 instead of 16.1, coordinates would differ by up to 0.2.)
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    plane = torch.stack([rows, columns], dim=-1).view(1, -1, 2)
    found = original_positions(torch.cat([torch.zeros(1, 1, 2), plane], dim=1), 16)[0, 1:].view(16, 16, 2)
    expected = (torch.arange(16.0) + 0.5) * 37 / 16.1 - 0.5
    torch.testing.assert_close(found[1:-1, 4, 0], expected[1:-1], atol=0.06, rtol=0)
    torch.testing.assert_close(found[4, 1:-1, 1], expected[1:-1], atol=0.06, rtol=0)
    assert original_positions(positions, 37) is positions


def test_dinov2_made_for_larger_images(transformers, tmp_path):
    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=518)
    network = shaken(transformers.Dinov2Model(config))
    network.save_pretrained(tmp_path)
    x = smooth(224, 224)
    with torch.no_grad():
        embedded = network.embeddings.patch_embeddings(normalised(x.float(), DINOv2))
        tokens = torch.cat([network.embeddings.cls_token.expand(2, -1, -1), embedded], dim=1)
        tokens = tokens + original_positions(network.embeddings.position_embeddings, 16)
        expected = network.layernorm(network.encoder(tokens).last_hidden_state)[:, 0]
    torch.testing.assert_close(DINOv2(str(tmp_path))(x).pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_clip_is_the_embedding_of_transformers(clip, tmp_path, file):
    network, folder = clip
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    if file == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(network.state_dict(), tmp_path / file)
    e, x = CLIP(str(tmp_path)), smooth(40, 60)
    assert (e.name, e.num_features) == ("clip_32_16_48", 24)
    found = e(x).pooled
    middle = e.resized(x[..., 10:50].float())  # by PIL's rule, as tested below
    with torch.no_grad():
        tokens = network.vision_model(pixel_values=normalised(middle, CLIP)).pooler_output
        expected = network.visual_projection(tokens)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert e.protocol()["weights_sha256"] == file_sha256(tmp_path / file)


@pytest.mark.parametrize("side", [32, 100])
def test_clip_resizes_as_pil_does(side):
    x = smooth(side, side)
    found, expected = CLIP().resized(x.float()), pil_bicubic(x, 336)
    difference = (found - expected).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.005  # rounding once only would differ by 0.18


@pytest.mark.parametrize(
    ("cls", "d", "size", "name"), [(DINOv2, 1024, 224, "dinov2"), (CLIP, 768, 336, "clip")], ids=["dinov2", "clip"]
)
def test_the_published_ones_are_known_before_their_weights(cls, d, size, name):
    e = cls()
    assert (e.name, e.num_features, e.num_logits, e.size) == (name, d, None, size)
    assert len({name for name, _, _ in cls.known.values()}) == len(cls.known)


def test_published_sizes_in_folders_have_their_names(transformers, tmp_path):
    for d, name in ((1024, "dinov2"), (384, "dinov2_small")):
        transformers.Dinov2Config(hidden_size=d).save_pretrained(tmp_path / name)
        assert DINOv2(str(tmp_path / name)).name == name
    for width, patch, size, name in ((1024, 14, 336, "clip"), (1024, 14, 224, "clip_l14"), (768, 32, 224, "clip_b32")):
        vision = {
            "hidden_size": width,
            "patch_size": patch,
            "image_size": size,
            "projection_dim": 768,
            "num_attention_heads": width // 64,
        }
        transformers.CLIPConfig(vision_config=vision).save_pretrained(tmp_path / name)
        assert (CLIP(str(tmp_path / name)).name, CLIP(str(tmp_path / name)).num_features) == (name, 768)


def test_protocol_names_what_was_done(dinov2):
    protocol = DINOv2(str(dinov2[1])).protocol()
    assert json.loads(json.dumps(protocol)) == protocol
    assert protocol["weights_sha256"] == file_sha256(dinov2[1] / "model.safetensors")
    assert protocol["resize"] == "bicubic, antialiased, in float32, to 224x224"
    assert protocol["normalisation"]["mean"] == MEANS[DINOv2][0]


def test_half_precision_files_compute_in_float32(dinov2, tmp_path):
    network, _ = dinov2
    copy.deepcopy(network).half().save_pretrained(tmp_path)
    e = DINOv2(str(tmp_path)).prepare()
    assert {p.dtype for p in e.parameters()} == {torch.float32}
    assert not e.training
    assert not any(p.requires_grad for p in e.parameters())


def test_weights_that_do_not_fit(dinov2, clip, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(dinov2[1], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["layernorm.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"DINOv2: the weights in .* lack layernorm\.weight"):
        DINOv2(str(tmp_path)).prepare()
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"DINOv2: the weights in .* cannot be read"):
        DINOv2(str(tmp_path)).prepare()
    file.unlink()
    with pytest.raises(UserError, match=r"DINOv2\.model is .* lacks config\.json or model\.safetensors"):
        DINOv2(str(tmp_path)).prepare()
    with pytest.raises(UserError, match=r"a model of type 'clip'; use dinov2"):
        DINOv2(str(clip[1]))
    with pytest.raises(UserError, match=r"CLIP\.model is 'nowhere', which is neither a folder nor one of openai"):
        CLIP("nowhere")


def test_weights_in_several_files(dinov2, tmp_path):
    network, folder = dinov2
    network.save_pretrained(tmp_path, max_shard_size="40KB")
    files = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(files) > 1
    assert hugging_face_files.weight_files(tmp_path) == files
    x = smooth(32, 32)
    torch.testing.assert_close(DINOv2(str(tmp_path))(x).pooled, DINOv2(str(folder))(x).pooled)
    before = hugging_face_files.weights_sha256(tmp_path)
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"x")
    assert hugging_face_files.weights_sha256(tmp_path) != before


def test_yaml_builds_it(dinov2):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--extractor", type=FeatureExtractor)
    config = {"class_path": "lightning_gen.metrics.extractors.dinov2.DINOv2", "init_args": {"model": str(dinov2[1])}}
    e = parser.instantiate_classes(parser.parse_object({"extractor": config})).extractor
    holder = torch.nn.ModuleDict({"metric": FID(e.prepare())})
    assert not holder.state_dict()
