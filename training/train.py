"""Train one network: parse, data, model, optimizer, loop, save.

    python training/train.py cifar10-two-cores --out runs/msresnet20
    torchrun --nproc-per-node 8 training/train.py paper-imagenet --model msresnet104 \\
        --schedule 125x5 --out runs/104

Run again with the same --out, it goes on where the last checkpoint left off, batch for batch
(pictures that timm's loader reads: on as many processors as before).
"""

import argparse
import dataclasses
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.optim import Muon
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import msr_zoo
from big_pages import restart_with_big_pages
from data import Batches, channels_last, open_split
from ending import told_to_end
from firing_rate import FiringRate
from grow import grow
from learned_decay import LearnedDecay
from loss import Answers, cross_entropy
from msr_zoo.neurons import LIF
from processes import Processes
from provenance import provenance
from recipes import RECIPES, Recipe
from sync_norm import synchronise
from teacher import Teacher, distillation


def main(arguments: list[str] | None = None) -> None:
    # Parse.
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--save-every", type=float, default=180, help="seconds between checkpoints")
    parser.add_argument(
        "--max-steps",
        type=int,
        default=math.inf,
        help="stop after so many steps, to measure or to try",
    )
    parser.add_argument(
        "--max-minutes",
        type=float,
        default=math.inf,
        help="stop after so long, for machines lent by the hour",
    )
    for field in dataclasses.fields(Recipe):
        flag = "--" + field.name.replace("_", "-")
        kind = _boolean if field.type is bool else field.type
        parser.add_argument(flag, type=kind, default=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    out, save_every = options.pop("out"), options.pop("save_every")
    max_steps = options.pop("max_steps")
    deadline = time.monotonic() + 60 * options.pop("max_minutes")
    recipe = dataclasses.replace(RECIPES[options.pop("recipe")], **options)

    try:
        recipe.check()
    except ValueError as error:
        parser.error(str(error))

    # Processes and device.
    processes = Processes.join()
    rank, world, device = processes.rank, processes.world, processes.device
    torch.backends.cudnn.benchmark = True
    if recipe.batch_size % world:
        parser.error(f"a batch of {recipe.batch_size} does not divide among {world} processes")

    # Model. Channels last, because that is the layout that convolutions run fastest in.
    torch.manual_seed(recipe.seed)
    try:
        net: Any = msr_zoo.create_model(
            recipe.model, pretrained=recipe.pretrained, num_steps=recipe.num_steps, **recipe.neuron
        )
        if recipe.neuron and not any(isinstance(module, LIF) for module in net.modules()):
            raise ValueError(f"decay needs a model with neurons, and {recipe.model} has none")
        train_set, test_set = (
            open_split(recipe, net.pretrained_cfg, train=t, device=device, rank=rank, world=world)
            for t in (True, False)
        )
        if len(train_set.classes) != net.num_classes:
            net.reset_classifier(len(train_set.classes))
        given: set[str] = set()
        if recipe.grown_from:
            given = grow(net, recipe.grown_from, train_set.classes)
        decay = LearnedDecay(net).to(device) if recipe.learned_decay else None
        penalty = FiringRate(net) if recipe.rate_penalty else None
        teacher = None
        if recipe.teacher:
            teacher = Teacher(recipe.teacher, net.pretrained_cfg, train_set.classes, device)
    except (ValueError, OSError, RuntimeError) as error:
        parser.error(str(error))
    if test_set.classes != train_set.classes:
        parser.error(f"train has the classes {train_set.classes}, test {test_set.classes}")
    if not len(train_set):
        parser.error(
            f"{train_set.num_pictures} training pictures are fewer than a batch of "
            f"{recipe.batch_size}; lower --batch-size"
        )
    net = net.to(device, memory_format=torch.channels_last)
    if world > 1:
        net = synchronise(net, device)
    average = ModelEmaV3(net, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    kept: Any = average.module if average else net
    answers = Answers(net, recipe.tet, decay)
    model = DistributedDataParallel(answers) if world > 1 else answers

    # Optimizer. Batch-norm scales and biases are not decayed; Muon is for convolutions alone.
    by_kind: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in answers.named_parameters():
        kind = (parameter.dim(), name.removeprefix("network.") in given)
        by_kind.setdefault(kind, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "weight_decay": recipe.weight_decay if dim > 1 else 0.0,
            "use_fallback": dim < 4,
            "share": recipe.grown_lr if grown else 1.0,
        }
        for (dim, grown), parameters in sorted(by_kind.items())
    ]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "muon":
        optimizer = Muon(groups, recipe.lr, momentum=0.95, nesterov=True, ns_steps=3)
    else:
        optimizer = torch.optim.SGD(groups, recipe.lr, momentum=0.9, nesterov=recipe.nesterov)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
    autocast = torch.autocast(
        device.type, getattr(torch, recipe.precision), enabled=recipe.precision != "float32"
    )

    # Resume.
    checkpoint = out / "last.pt"
    start, history, so_far, seconds = 0, [], (0.0, 0.0), 0.0
    made, earlier = provenance(device, world), []
    if saved := processes.load(checkpoint):
        try:
            made_by = Recipe(**saved["recipe"])  # a field that came since has its default
        except TypeError:  # of a field that is none here
            made_by = None
        if made_by != recipe:
            parser.error(f"{checkpoint} was made by another recipe; choose another --out")
        kept.load_state_dict(saved["model"])
        if average:
            net.load_state_dict(saved["unaveraged"])
        if decay:
            decay.load_state_dict(saved["learned_decay"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        start, history, so_far = saved["step"], saved["history"], saved["so_far"]
        seconds = saved.get("seconds", 0.0)
        earlier = [p for p in (*saved.get("earlier", []), saved["provenance"]) if p != made]
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)

    def save(step: int, sums: Tensor, seconds: float) -> None:
        so_far = (processes.sum(sums) / world).tolist()
        if rank:
            return
        state = {
            "model": kept.state_dict(),
            "unaveraged": net.state_dict() if average else None,
            "learned_decay": decay.state_dict() if decay else None,
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "step": step,
            "history": history,
            "so_far": so_far,  # loss and share named right, summed over an unfinished epoch
            "seconds": seconds,  # that it took
            "recipe": dataclasses.asdict(recipe),
            "classes": train_set.classes,
            "provenance": made,
            "earlier": earlier,  # of the parts that other commits or machines trained
        }
        torch.save(state, out / "last.tmp")
        os.replace(out / "last.tmp", checkpoint)

    def stopped(step: int) -> None:
        if rank == 0:
            print(f"stopped after step {step}; the same command goes on from {checkpoint}")

    # Loop. SIGTERM (a machine about to be taken away) saves and ends.
    log = SummaryWriter(str(out)) if rank == 0 else None
    steps_per_epoch = len(train_set)
    last_saved = time.monotonic()
    step = start
    with told_to_end() as ending:
        for epoch in range(len(history), recipe.epochs):
            net.num_steps = kept.num_steps = recipe.phase(epoch).num_steps
            model.train()
            sums = torch.tensor(so_far, device=device)
            began, first = time.monotonic() - seconds, step - epoch * steps_per_epoch
            so_far, seconds = (0.0, 0.0), 0.0
            batches = train_set.epoch(epoch, first)
            bar = tqdm(
                batches,
                f"epoch {epoch + 1}/{recipe.epochs}",
                steps_per_epoch,
                initial=first,
                disable=rank > 0,
            )
            for images, labels in bar:
                torch.manual_seed(
                    recipe.seed + step * world + rank
                )  # dropout repeats itself on resume
                rate = learning_rate(recipe, step / steps_per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("share", 1.0)
                images = channels_last(images)
                with autocast:
                    logits = model(images)
                    taught = teacher(images) if teacher else None
                loss = cross_entropy(logits, labels, recipe.label_smoothing)
                if taught is not None:
                    loss = loss.lerp(distillation(logits, taught), recipe.teacher_weight)
                if penalty:
                    loss = loss + recipe.rate_penalty * penalty.take()
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                right = (logits.mean(0).argmax(1) == labels).float().mean()
                sums += torch.stack([loss.detach(), right])
                step += 1
                if average:
                    average.update(net, step)
                # One process may be told to stop while another waits for its gradients.
                stop, due = processes.any(
                    step - start >= max_steps or time.monotonic() > deadline or bool(ending),
                    time.monotonic() - last_saved > save_every,
                )
                if stop or due:
                    save(step, sums, time.monotonic() - began)
                    last_saved = time.monotonic()
                if stop:
                    stopped(step)
                    return
            # A resumed run finds the epoch's steps done, and evaluates.
            save(step, sums, time.monotonic() - began)
            accuracy = evaluate(kept, test_set, autocast, processes, ending)
            if accuracy is None:
                stopped(step)
                return
            mean_loss, train_accuracy = (processes.sum(sums) / world / steps_per_epoch).tolist()
            history.append(
                {
                    "epoch": epoch + 1,
                    "T": net.num_steps,
                    "loss": mean_loss,
                    "train_top1": train_accuracy,  # while it learns, of augmented pictures
                    "top1": accuracy,
                    "seconds": time.monotonic() - began,
                }
            )
            if decay:
                history[-1]["decay"] = decay().item()
            if log:
                print(json.dumps(history[-1]), flush=True)
                log.add_scalar("loss/train", mean_loss, step)
                log.add_scalar("top1/train", train_accuracy, step)
                log.add_scalar("top1/test", accuracy, step)
                log.add_scalar("lr", learning_rate(recipe, step / steps_per_epoch), step)
            save(step, torch.zeros_like(sums), 0.0)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Linear warm-up, then a cosine to 0."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * (epoch + 0.01) / recipe.warmup_epochs
    done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Batches, autocast: Any, processes: Processes, ending: list[bool]
) -> float | None:
    """Share of the split that the model names right, over all processes; None if one is ending."""
    model.eval()
    # Readers that must give all processes as many pictures show a few of them twice.
    right_all_cut = torch.zeros(3, dtype=torch.int64, device=processes.device)
    for images, labels in batches.epoch(0):
        if ending:
            right_all_cut[2] = 1
            break
        with autocast:
            logits = model(channels_last(images))
        right_all_cut[0] += (logits.argmax(1) == labels).sum()
        right_all_cut[1] += len(labels)
    right, number, cut = processes.sum(right_all_cut).tolist()
    return None if cut else float(right / number)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text}")
    return text == "true"


if __name__ == "__main__":
    restart_with_big_pages()
    main()
    if dist.is_initialized():
        dist.destroy_process_group()
