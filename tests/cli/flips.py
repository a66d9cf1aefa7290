"""For every option of every command: what to give it, and what that must change."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Flip:
    """Two runs that differ in one option.

    Attributes:
        flip: arguments of the second run only.
        base: arguments of both, beside the command's own.
        same: the option has no effect on results, by contract.
        models, data: of both runs, instead of the command's own.
        flip_models, flip_data: of the second run only.
    """

    flip: str = ""
    base: str = ""
    same: bool = False
    models: str = ""
    data: str = ""
    flip_models: str = ""
    flip_data: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """The option's effect is no result; ``test`` (a function of this directory or of tests/data) shows it."""

    test: str


STREAMS: dict[str, Flip | Elsewhere] = {
    "report": Elsewhere("test_report_json_and_quiet_on_a_terminal"),
    "as_json": Elsewhere("test_report_json_and_quiet_on_a_terminal"),
    "quiet": Elsewhere("test_report_json_and_quiet_on_a_terminal"),
    "download": Elsewhere("test_download_reaches_torchvision_and_its_output_leaves_stdout_alone"),
    "device": Flip("--device cpu", same=True),
}
# A picture folder has a size of its own only with an untrained network, which takes any.
SIZE = Flip("--size 12", "--limit 8", models="A=advkit/cnn B=advkit/resnet8", data="pictures")
DATA: dict[str, Flip | Elsewhere] = {
    "data": Flip(flip_data="digits#train"),
    "limit": Flip("--limit 20"),
    "size": SIZE,
    "mean": Flip("--mean 0.1", models="A=advkit/cnn B=advkit/resnet8"),  # others bring their own
    "std": Flip("--std 0.7", models="A=advkit/cnn B=advkit/resnet8"),
    "fix_boxes": Elsewhere("test_boxes_out_of_range_are_refused_by_name_or_clipped"),
    **STREAMS,
}
ATTACK: dict[str, Flip | Elsewhere] = {
    "method": Flip("--method mi"),
    "eps": Flip("--eps 0.05"),
    "norm": Flip("--norm l2"),
    "steps": Flip("--steps 4"),
    "step_size": Flip("--step-size 0.01"),
    "loss": Flip("--loss margin"),
    "target": Flip("--target next"),
    "random_start": Flip("--no-random-start"),
    "restarts": Flip("--restarts 3"),
    "precision": Flip("--precision bfloat16", "--precision float32"),
    "seed": Flip("--seed 1"),
    "batch_size": Flip("--batch-size 7", same=True),
}
TRAINING: dict[str, Flip | Elsewhere] = {  # of train and adv-pretrain
    "data": Flip(flip_data="digits#test"),
    "size": Flip("--size 12", "--size 16 --batch-size 4", data="pictures"),
    "arch": Flip("--arch advkit/resnet8"),
    "init": Flip("--init r.safetensors"),
    "validation": Flip("--validation 0.2"),
    "epochs": Flip("--epochs 2"),
    "batch_size": Flip("--batch-size 8"),
    "optimizer": Flip("--optimizer adamw"),
    "lr": Flip("--lr 0.05"),
    "weight_decay": Flip("--weight-decay 0.01"),
    "momentum": Flip("--momentum 0.5"),
    "schedule": Flip("--schedule cosine"),
    "label_smoothing": Flip("--label-smoothing 0.1"),
    "clip": Flip("--clip 0.1"),
    "ema": Flip("--ema 0.9"),
    "precise_bn": Flip("--precise-bn 64"),
    "freeze_bn": Flip("--freeze-bn"),
    "backbone": Elsewhere("test_a_backbone_is_chosen_and_kept"),
    "augment": Flip("--augment crop"),
    "precision": Flip("--precision bfloat16", "--precision float32"),
    "mean": Flip("--mean 0.1"),
    "std": Flip("--std 0.7"),
    "limit": Flip("--limit 80"),
    "seed": Flip("--seed 1"),
    "force": Elsewhere("test_a_checkpoint_of_another_run_is_not_replaced_unasked"),
}
DANN = "--method dann"
FAST = "--method fast --eps 0.1"
OWN = {  # what every run of a command begins with; {models} and {data} are filled in
    "train": "--arch advkit/cnn --data {data} --limit 60 --epochs 1 --batch-size 16 --device cpu -o t.safetensors",
    "adv-pretrain": "--arch advkit/cnn --data {data} --limit 60 --epochs 1 --batch-size 16 --device cpu "
    "-o t.safetensors",
    "adapt": "{models} --source {data} --target digits#test --limit 60 --epochs 1 --batch-size 16 --lr 0.02 "
    "--device cpu -o t.safetensors",
    "attack": "{models} --data {data} --limit 40 --steps 3 --eps 0.25 -o a.safetensors",
    "transfer-matrix": "{models} --data {data} --limit 40 --steps 3 --eps 0.25",
    "domain-distance": "{models} --limit 40 --repeats 2 --permutations 20",
    "evaluate": "{models} --data {data}",
    "visualize attention": "{models} --data {data} --limit 40 --samples 2 --figure f.png",
    "visualize features": "{models} --data {data} --limit 40 --steps 2 --figure f.png",
}
MODELS = {
    "transfer-matrix": "R=r.safetensors V=r2.safetensors",
    "domain-distance": "digits#train digits#test",
    "visualize attention": "r.safetensors r2.safetensors",
    "visualize features": "r.safetensors r2.safetensors",
}
FLIPS: dict[str, dict[str, Flip | Elsewhere]] = {
    "train": DATA
    | TRAINING
    | {
        "out": Elsewhere("test_equal_runs_give_equal_bytes"),
        "misalign_from": Flip("--misalign-from r.safetensors"),
        "misalign_weight": Flip("--misalign-weight 0.3", "--misalign-from r.safetensors"),
        "misalign_penalty": Flip("--misalign-penalty square", "--misalign-from r.safetensors"),
        "misalign_at": Flip("--misalign-at clean,noise", "--misalign-from r.safetensors"),
        "misalign_eps": Flip("--misalign-eps 0.2", "--misalign-from r.safetensors --misalign-at noise"),
        "misalign_steps": Flip("--misalign-steps 4", "--misalign-from r.safetensors --misalign-at adversarial"),
        "misalign_warm_up": Flip("--misalign-warm-up 0", "--misalign-from r.safetensors"),
        "smoothness_weight": Flip("--smoothness-weight 0.5", "--misalign-from r.safetensors"),
        "resume": Elsewhere("test_an_interrupted_run_resumes_to_the_same_bytes"),
    },
    "adv-pretrain": DATA
    | {name: replace(row, base=f"{row.base} {FAST}") for name, row in TRAINING.items() if isinstance(row, Flip)}
    | {
        "backbone": Elsewhere("test_a_backbone_is_chosen_and_kept"),
        "out": Elsewhere("test_adversarial_training_gives_equal_bytes"),
        "force": Elsewhere("test_adversarial_training_goes_on_to_the_same_bytes"),
        "resume": Elsewhere("test_adversarial_training_goes_on_to_the_same_bytes"),
        "method": Flip("--method mart", "--eps 0.1 --steps 2 --check-images 1"),
        "objective": Elsewhere("test_what_the_attack_on_a_detector_raises_is_chosen"),
        "eps": Flip("--eps 0.05", FAST),
        "steps": Flip("--steps 1", "--eps 0.1 --check-images 1"),
        "step_size": Flip("--step-size 0.01", FAST),
        "adversarial_ratio": Flip("--adversarial-ratio 0.5", FAST),
        "replays": Flip("--replays 2", "--eps 0.1 --method free"),
        "beta": Flip("--beta 1", "--eps 0.1 --method trades --steps 1"),
        "awp": Flip("--awp 0.1", FAST),
        "check_eps": Flip("--check-eps 0.2", FAST),
        "check_steps": Flip("--check-steps 3", FAST),
        "check_images": Flip("--check-images 5", FAST),
        "on_overfit": Elsewhere("test_an_alarm_does_what_the_option_says"),
        "fail_above": Flip("--fail-above 1", FAST),
        "fail_below": Flip("--fail-below 0", FAST),
    },
    "adapt": {name: row for name, row in DATA.items() if name not in ("data", "mean", "std")}
    | {name: row for name, row in TRAINING.items() if name not in ("data", "arch", "init", "backbone", "mean", "std")}
    | {
        "model": Flip(flip_models="r2.safetensors"),
        "source": Flip(flip_data="digits#test"),
        "target": Flip("--target digits#train", DANN),
        "out": Elsewhere("test_an_adaptation_gives_equal_bytes_whatever_the_targets_labels"),
        "force": Elsewhere("test_an_adaptation_goes_on_to_the_same_bytes"),
        "resume": Elsewhere("test_an_adaptation_goes_on_to_the_same_bytes"),
        "size": Flip(
            "--size 12", "--size 16 --batch-size 4 --limit 16 --target pictures", models="advkit/cnn", data="pictures"
        ),
        "mean": Flip("--mean 0.1", models="advkit/cnn"),
        "std": Flip("--std 0.7", models="advkit/cnn"),
        "method": Flip("--method mcc", DANN),
        "weight": Flip("--weight 0.3", "--method mcc"),
        "threshold": Flip("--threshold 0.1", "--method self-training"),
        "teacher_ema": Elsewhere("test_the_options_of_a_mean_teacher_reach_it"),
        "adversarial": Flip("--adversarial", DANN),
        "eps": Flip("--eps 0.1", f"{DANN} --adversarial"),
        "objective": Elsewhere("test_what_the_attack_of_an_adaptation_raises_is_chosen"),
        "select": Flip("--select im", f"{DANN} --epochs 3 --lr 1.0"),
        "compare": Flip("--compare digits#test"),
        "target_labels": Flip("--target-labels", "--compare digits#test"),
        "fail_above": Flip("--fail-above 1", "--compare digits#test"),
        "fail_below": Flip("--fail-below 0", "--compare digits#test"),
        "precise_bn": Flip("--precise-bn 64"),
    },
    "attack": DATA
    | ATTACK
    | {
        "models": Flip(flip_models="r2.safetensors"),
        "out": Flip("-o pngs"),
        "goal": Flip("--goal transfer"),
        "methods": Elsewhere("test_methods_are_listed"),
        "fail_on_flag": Elsewhere("test_each_suspicion_and_its_gate"),
        "figure": Elsewhere("test_the_curve_counts_what_resists_within_each_radius"),
        "quantize": Flip("--quantize"),
        "resume": Elsewhere("test_an_attack_goes_on_to_the_same_bytes"),
        "force": Elsewhere("test_attack_replaces_only_what_it_may"),
    },
    "transfer-matrix": DATA
    | ATTACK
    | {
        "models": Flip(flip_models="R=r.safetensors V=advkit/cnn"),
        "surrogate": Flip("--surrogate R"),
        "adversarial": Flip("--adversarial adv.safetensors --method pgd"),
        "compare": Flip("--compare R:R,V"),
        "gradients": Flip("--no-gradients"),
        "rate": Flip("--rate raw", "--fail-above 1"),
        "fail_above": Flip("--fail-above 0.9"),
        "fail_below": Flip("--fail-below 0"),
        "figure": Flip("--figure m.svg"),
        "workers": Elsewhere("test_workers_change_nothing"),
        "ray": Elsewhere("test_a_cluster_changes_nothing"),
    },
    "domain-distance": STREAMS
    | {
        "data": Flip(flip_models="digits#test digits#train"),
        "features": Flip("--features advkit/cnn"),
        "limit": Flip("--limit 30"),
        "size": Flip("--size 8"),
        "mean": Flip("--mean 0.1", "--features advkit/cnn"),
        "std": Flip("--std 0.7", "--features advkit/cnn"),
        "seed": Flip("--seed 1"),
        "batch_size": Flip("--batch-size 7", "--features advkit/cnn", same=True),
        "subsample": Flip("--subsample 10"),
        "repeats": Flip("--repeats 3"),
        "permutations": Flip("--permutations 30"),
        "advise": Flip("--advise"),
        "calibration": Elsewhere("test_a_calibration_foretells_gains_with_intervals"),
        "figure": Flip("--figure d.svg"),
        "fail_above": Flip("--fail-above 1000"),
        "fail_below": Flip("--fail-below 0"),
    },
    "evaluate": DATA
    | {
        "models": Flip(flip_models="r2.safetensors"),
        "fail_above": Flip("--fail-above 0.9"),
        "fail_below": Flip("--fail-below 0.1"),
        "seed": Flip("--seed 1", "--limit 20"),
        "batch_size": Flip("--batch-size 7", same=True),
    },
    "visualize attention": DATA
    | {
        "std": Elsewhere(
            "test_mean_and_std_go_to_models_that_bring_none"
        ),  # maps of a fresh network don't depend on it
        "models": Flip(flip_models="r2.safetensors"),
        "figure": Flip("--figure g.svg"),
        "index": Flip("--index 491", "--index 479"),
        "pick": Flip("--pick disagree", models="r.safetensors advkit/cnn"),
        "count": Flip("--count 2"),
        "maps": Flip("--map saliency"),
        "samples": Flip("--samples 3"),
        "sigma": Flip("--sigma 0.3"),
        "limit": Flip("--limit 20"),
        "seed": Flip("--seed 1"),
        "batch_size": Flip("--batch-size 1", "--pick all-correct", same=True),
    },
    "visualize features": DATA
    | {
        "models": Flip(flip_models="r2.safetensors"),
        "figure": Flip("--figure g.svg"),
        "index": Flip("--index 491", "--index 479"),
        "pick": Flip("--pick disagree", models="r.safetensors advkit/cnn"),
        "count": Flip("--count 2"),
        "show": Flip("--show inversion"),
        "layer": Flip("--layer features.0"),
        "steps": Flip("--steps 3"),
        "step_size": Flip("--step-size 0.1"),
        "start": Flip("--start image"),
        "eps": Flip("--eps 0.01"),
        "limit": Flip("--limit 20"),
        "seed": Flip("--seed 1"),
        "batch_size": Flip("--batch-size 1", "--pick all-correct", same=True),
    },
}
