"""How many trainings a second: many small networks side by side, beside plain PyTorch, one training after another.

The reference is what one would write: `torch.nn.Sequential`, batches cut from shuffled tensors, a list loss that loops
over the two tissues with autograd, `torch.optim.AdamW`. Ours: the same updates for every case at
once. Both run in this process, in turns, with as many threads as OMP_NUM_THREADS says; a step is one batch of one case.

python benchmarks/synthetic.py [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from agl.papers.strank_synthetic.settings import StudySettings, read_study
from agl.papers.strank_synthetic.training import MethodTraining, StudyData


def plain_network(hidden: tuple[int, ...]) -> nn.Sequential:
    """1-H-1 or 1-H-K-1."""
    layers: list[nn.Module] = []
    for before, after in zip((1, *hidden), (*hidden, 1), strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def plain_listwise(scores: Tensor, counts: Tensor, slides: Tensor) -> Tensor:
    """The list loss of one gene, tissue by tissue."""
    loss = scores.new_zeros(())
    for slide in (0, 1):
        here = slides == slide
        loss = loss - (counts[here] * torch.log_softmax(scores[here], 0)).sum()
    return loss / len(scores)


def plain_steps(study: StudySettings, data: StudyData, steps: int) -> Callable[[], None]:
    """`steps` batches of one training of the first case."""
    torch.manual_seed(0)
    network = plain_network(study.hidden)
    optimizer = torch.optim.AdamW(network.parameters(), lr=study.learning_rate)
    tissues, size = data.training, study.batch_size
    x, counts, slides = tissues.x[0].unsqueeze(1), tissues.counts[0], tissues.slides

    def run() -> None:
        order = torch.randperm(len(slides))
        for step in range(steps):
            part = order[step * size : (step + 1) * size]
            loss = plain_listwise(network(x[part])[:, 0], counts[part], slides[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def our_steps(study: StudySettings, data: StudyData, steps: int) -> Callable[[], None]:
    """`steps` batches of every case, cutting and sorting the batches included."""
    training = MethodTraining(study, study.methods[0])
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        for step, batch in enumerate(data.batches(0)):
            if step == steps:
                break
            training.step(batch, generator)

    return run


def best_of(repeats: int, *functions: Callable[[], None]) -> list[float]:
    """Seconds of each, the best of some rounds in turns."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for number, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def main(quick: bool) -> None:
    """One line a network."""
    steps, repeats = (10, 3) if quick else (40, 7)
    print(f"{torch.get_num_threads()} thread(s), batches of 256, list loss, 40 cases")
    print(
        f"{'network':>12} {'plain us/step':>14} {'ours us/step':>13} {'ratio':>6}   ours, 2,000 epochs of 100,000 spots"
    )
    for hidden in ("[16]", "[256]", "[128,128]"):
        study = read_study([f"hidden={hidden}", f"spots={128 * steps}", "evaluation_spots=10", "methods=[ListSTRank]"])
        data = StudyData(study)
        plain, ours = best_of(repeats, plain_steps(study, data, steps), our_steps(study, data, steps))
        cases = len(study.cases)
        plain, ours = 1e6 * plain / steps, 1e6 * ours / steps / cases
        hours = ours * 1e-6 * cases * 2000 * 391 / 3600
        print(f"{hidden:>12} {plain:14.0f} {ours:13.1f} {plain / ours:6.1f}   {hours:.2f} h for all 40")


if __name__ == "__main__":
    main("--quick" in sys.argv)
