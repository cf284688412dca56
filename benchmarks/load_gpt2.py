"""Loading GPT-2 124M from a file: seconds, and the highest memory above the imports, beside transformers.

Writes a random 124M checkpoint to a temporary folder, and loads it in a fresh process for each run (Linux).
Run: python benchmarks/load_gpt2.py
"""

import statistics
import subprocess
import sys
import tempfile

WAYS = {
    "gptlab.load_gpt2": ("from gptlab import load_gpt2", "load_gpt2(folder)[0]"),
    "transformers": (
        "from transformers import GPT2LMHeadModel",
        "GPT2LMHeadModel.from_pretrained(folder)",
    ),
}
CHILD = """
import sys, time, torch
torch.set_num_threads(2)
folder = sys.argv[1]
{imports}
def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
before, start = memory("VmRSS"), time.perf_counter()
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark begins here
model = {load}
loaded = time.perf_counter() - start
total = sum(parameter.sum().item() for parameter in model.parameters())  # mapped weights are only read now
print(loaded, time.perf_counter() - start, memory("VmHWM") - before)
"""


def write_checkpoint(folder: str) -> int:
    import torch

    from gptlab import GPT2_SIZES, GPTModel, export_huggingface, gpt2_tokenizer, initialize_like_gpt2

    model = GPTModel(GPT2_SIZES["gpt2"])
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    export_huggingface(model, gpt2_tokenizer(), folder)
    return sum(parameter.nbytes for parameter in model.parameters())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(folder)
        print(f"weights: {size / 1e6:.0f} MB")
        for way, (imports, load) in WAYS.items():
            runs = []
            for _ in range(5):
                code = CHILD.format(imports=imports, load=load)
                done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
                runs.append([float(number) for number in done.stdout.split()])
            loaded, read, memory = (statistics.median(column) for column in zip(*runs))
            print(f"{way:<20}{loaded:6.2f} s, {read:5.2f} s until all are read, {memory / size:5.2f} x weights")
