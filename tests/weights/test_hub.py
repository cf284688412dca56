"""Models by name: the download against a server on this machine, and what is found without any network."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from gptlab.__main__ import main
from gptlab.config import GPT2_SIZES
from gptlab.weights import hub as hub_module
from gptlab.weights import load_checkpoint, load_gpt2
from gptlab.weights.hub import OFFICIAL, download, endpoint, find_local, locate, repository_of

IDS = torch.arange(12).view(1, 12)


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()


@pytest.fixture(scope="module")
def upload(theirs, tmp_path_factory):
    """A small GPT-2 with OpenAI's vocabulary size: config.json, generation_config.json, model.safetensors."""
    folder = tmp_path_factory.mktemp("upload")
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Of a broken connection's last chunk nothing is kept, and chunks are larger than this file."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "checkpoints"


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_logits(model, theirs):
    with torch.no_grad():
        torch.testing.assert_close(model(IDS), theirs(IDS).logits, atol=1e-5, rtol=1e-5)
    return True


def test_first_download_and_then_no_request(hub, upload, theirs, cache):
    hub.add("openai-community/gpt2-medium", upload)
    model, tokenizer = load_gpt2("355M", cache_dir=cache, progress=False)
    assert same_logits(model, theirs)
    assert tokenizer.n_vocab == 50257
    got = {file for method, file, _ in hub.asked if method == "GET"}
    assert got == {"listing", *(path.name for path in upload.iterdir())}

    hub.asked.clear()
    for name in ("355M", "gpt2-medium", "gpt2-medium (355M)", "openai-community/gpt2-medium"):
        assert same_logits(load_gpt2(name, cache_dir=cache)[0], theirs)
    assert same_logits(load_checkpoint("355M", cache_dir=cache).model, theirs)
    assert hub.asked == []
    opened = AutoModelForCausalLM.from_pretrained(
        "openai-community/gpt2-medium", cache_dir=cache, local_files_only=True
    )
    assert opened.eval()(IDS).logits.equal(theirs(IDS).logits)


def test_a_cut_connection_is_resumed(hub, upload, cache):
    hub.add("openai-community/gpt2", upload)
    hub.cut_once["model.safetensors"] = 1_000_000
    folder = download("124M", cache, progress=False)
    ranges = [range_ for method, file, range_ in hub.asked if method == "GET" and file == "model.safetensors"]
    assert len(ranges) == 2
    assert ranges[0] is None
    first = int(ranges[1].removeprefix("bytes=").rstrip("-"))
    assert 0 < first <= 1_000_000
    assert (folder / "model.safetensors").read_bytes() == (upload / "model.safetensors").read_bytes()


def test_a_download_that_died_goes_on_in_the_next_run(hub, upload, cache, monkeypatch):
    hub.add("openai-community/gpt2", upload)
    hub.cut_once["model.safetensors"] = 1_000_000
    hub.dead.add("model.safetensors")
    monkeypatch.setattr(hub_module, "_ATTEMPTS", 1)
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        download("gpt2", cache, progress=False)
    assert find_local("gpt2", cache) is None
    hub.asked.clear()
    hub.dead.clear()
    download("gpt2", cache, progress=False)
    [resumed] = [range_ for method, file, range_ in hub.asked if method == "GET" and file != "listing"]
    assert resumed.startswith("bytes=")
    assert find_local("gpt2", cache) is not None


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_wrong_checksum_is_refused_and_nothing_stays(hub, upload, cache, file):
    hub.add("openai-community/gpt2", upload)
    hub.damaged.add(file)
    with pytest.raises(ValueError, match=f"{file} arrived damaged: its checksum is .*, the hub says"):
        load_gpt2("gpt2", cache_dir=cache, progress=False)
    assert find_local("gpt2", cache) is None
    hub.damaged.clear()
    assert (download("gpt2", cache, progress=False) / file).read_bytes() == (upload / file).read_bytes()


def test_a_file_that_was_damaged_later_is_found_by_downloading_again(hub, upload, cache):
    hub.add("openai-community/gpt2", upload)
    weights = download("gpt2", cache, progress=False) / "model.safetensors"
    content = weights.read_bytes()
    weights.resolve().write_bytes(content[:-1] + b"\0" if content[-1] else content[:-1] + b"\1")
    with pytest.raises(ValueError, match=r"model\.safetensors arrived damaged"):
        download("gpt2", cache, progress=False)
    assert (download("gpt2", cache, progress=False) / "model.safetensors").read_bytes() == content


def test_two_downloads_at_once_take_turns(hub, upload, cache):
    hub.add("openai-community/gpt2", upload)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: download("gpt2", cache, progress=False), range(2)))
    assert folders[0] == folders[1]
    assert (folders[0] / "model.safetensors").read_bytes() == (upload / "model.safetensors").read_bytes()
    assert sum(file == "model.safetensors" and method == "GET" for method, file, _ in hub.asked) == 1


def test_a_part_at_which_the_server_will_not_go_on_is_given_up(hub, upload, cache):
    hub.add("openai-community/gpt2", upload)
    hub.refused_range.add("model.safetensors")
    part = hub_module._blobs("openai-community/gpt2", cache) / f"{sha256_of(upload / 'model.safetensors')}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something")
    with pytest.raises(FileNotFoundError, match="answered: .*416"):
        download("gpt2", cache, progress=False)
    assert download("gpt2", cache, progress=False).is_dir()


def test_a_mirror_without_checksums(hub, upload, cache):
    hub.add("openai-community/gpt2", upload)
    hub.without_checksums = True
    assert (download("gpt2", cache, progress=False) / "model.safetensors").is_file()


def test_what_is_here_is_not_downloaded_again(hub, upload, cache, monkeypatch):
    hub.add("openai-community/gpt2", upload)
    shutil.copytree(upload, cache / "gpt2")
    assert download("gpt2", cache) == cache / "gpt2"
    assert hub.asked == []
    (cache / "gpt2" / "model.safetensors").write_bytes(b"cut off")
    assert find_local("gpt2", cache) is None
    folder = download("gpt2", cache, progress=False)
    assert locate("gpt2", cache) == folder != cache / "gpt2"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert download("gpt2", cache) == folder  # nobody answers, and nobody needs to


def test_an_owners_model_is_not_taken_for_anothers(hub, upload, cache):
    shutil.copytree(upload, cache / "gpt2")
    shutil.copytree(upload, cache / "models--gpt2" / "snapshots" / "main")
    assert find_local("openai-community/gpt2", cache) == cache / "gpt2"
    assert find_local("somebody/gpt2", cache) is None
    with pytest.raises(ValueError, match="there is no model somebody/gpt2 at"):
        locate("somebody/gpt2", cache)


def test_shards(hub, upload, theirs, cache, tmp_path):
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="2MB")
    hub.add("someone/some-gpt2", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert same_logits(load_gpt2("someone/some-gpt2", cache_dir=cache, progress=False)[0], theirs)
    folder = find_local("someone/some-gpt2", cache)
    next(folder.glob("*.safetensors")).unlink()
    assert find_local("someone/some-gpt2", cache) is None


def test_the_mirror_is_the_one_of_the_environment(hub, upload, cache, monkeypatch):
    hub.add("openai-community/gpt2", upload)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")  # nobody listens there
    assert endpoint() == "http://127.0.0.1:9"
    with pytest.raises(
        FileNotFoundError, match=r"127\.0\.0\.1:9 cannot be reached .*config\.json, model\.safetensors"
    ) as no:
        download("gpt2", cache, progress=False)
    assert str(cache / "gpt2") in str(no.value)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert download("gpt2", cache, progress=False).is_dir()
    monkeypatch.delenv("HF_ENDPOINT")
    assert endpoint() == OFFICIAL


def test_offline_with_and_without_the_files(hub, upload, theirs, cache, monkeypatch):
    hub.add("openai-community/gpt2", upload)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE forbids .* into .*gpt2"):
        load_gpt2("gpt2", cache_dir=cache)
    shutil.copytree(upload, cache / "gpt2")  # what the message says
    assert same_logits(load_gpt2("gpt2", cache_dir=cache)[0], theirs)
    assert hub.asked == []


def test_without_huggingface_hub(upload, theirs, cache, monkeypatch):
    monkeypatch.setattr(hub_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install huggingface_hub"):
        download("gpt2", cache)
    shutil.copytree(upload, cache / "openai-community" / "gpt2")
    assert find_local("124M", cache) == cache / "openai-community" / "gpt2"


def test_what_transformers_has_downloaded_is_found(hub, upload, cache, monkeypatch, tmp_path):
    hub.add("openai-community/gpt2", upload)
    for where in (cache, tmp_path / "transformers-cache"):
        for file in upload.iterdir():
            huggingface_hub.hf_hub_download("openai-community/gpt2", file.name, cache_dir=where, endpoint=hub.url)
        for layout in ("models--openai-community--gpt2", "models--gpt2"):  # transformers also takes the short name
            assert find_local("gpt2", cache).is_relative_to(where / layout)
            (where / layout).rename(where / "models--gpt2")
        shutil.rmtree(where)


def test_paths_come_before_names(upload, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(upload, tmp_path / "gpt2")
    assert locate("gpt2") == locate(tmp_path / "gpt2").relative_to(tmp_path)
    (tmp_path / "gpt2" / "config.json").unlink()  # such as the folder that the book's TensorFlow download makes
    shutil.copytree(upload, cache / "gpt2")
    assert locate("gpt2", cache) == cache / "gpt2"


def test_names(tmp_path, hub, monkeypatch):
    assert {repository_of(size).split("/")[1] for size in GPT2_SIZES} == set(GPT2_SIZES)
    book = ("gpt2-small (124M)", "gpt2-medium (355M)", "gpt2-large (774M)", "gpt2-xl (1558M)")
    assert [repository_of(name) for name in book] == [repository_of(name) for name in ("124M", "355M", "774M", "1558M")]
    with pytest.raises(
        ValueError, match=r"'345M' is neither a folder nor a model's name; known names are gpt2, .*355M"
    ):
        load_gpt2("345M")
    for missing in (tmp_path / "nothing", "checkpoints/nothing", "nothing.safetensors", "./nothing", "~/nothing"):
        with pytest.raises(FileNotFoundError, match="there is no file or folder .*nothing"):
            locate(missing)
    with pytest.raises(ValueError, match="a folder or a model's name is needed"):
        locate("")
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com/")
    assert endpoint() == "https://hf-mirror.com"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(ValueError, match="there is no model someone/nothing at"):
        locate("someone/nothing", tmp_path)


def test_a_pickle_is_not_downloaded(hub, cache, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "old" / "pytorch_model.bin").write_bytes(b"pickle")
    hub.add("someone/old", tmp_path / "old")
    with pytest.raises(
        ValueError, match=r"someone/old has no model\.safetensors, but only pytorch_model\.bin, a pickle"
    ):
        download("someone/old", cache, progress=False)
    assert "pytorch_model.bin" not in {file for _, file, _ in hub.asked}


def test_an_index_that_names_a_missing_shard(hub, cache, tmp_path):
    (tmp_path / "torn").mkdir()
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "torn" / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    hub.add("someone/torn", tmp_path / "torn")
    with pytest.raises(ValueError, match=r"someone/torn lacks model-00001-of-00002\.safetensors"):
        download("someone/torn", cache, progress=False)


def test_the_command(hub, upload, cache, capsys):
    hub.add("openai-community/gpt2-medium", upload)
    assert main(["download", "355M", "--cache-dir", str(cache), "--quiet"]) == 0
    assert str(find_local("355M", cache)) in capsys.readouterr().out
    assert main(["download", "345M", "--cache-dir", str(cache)]) == 2
    assert "known names are" in capsys.readouterr().err
