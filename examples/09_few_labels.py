"""Properties from a csv of a few hundred molecules: fine-tuning the base model, compared with training from scratch.

1. label: write two csv files with SMILES, the gap between the frontier orbitals and the dipole moment, by GFN2-xTB at
   the geometries that the library makes from these SMILES; or give your own file with --csv and --targets;
2. learn: train on 75, 150 and 300 molecules, for the same time each, from a base model and from scratch. The base is
   the potential, which knows neither gaps nor dipoles; for your own file it is the base model of properties;
3. look: see the learning curve, and the parity plots that every run writes;
4. predict: predict other molecules in one command, with standard deviations calibrated on the test molecules (for your
   own file: ``ik-e3nn calibrate`` and ``ik-e3nn predict``, with molecules that you kept back).

    python examples/09_few_labels.py [--output labels_output] [--minutes 0.8]
    python examples/09_few_labels.py --csv mine.csv --targets '{solubility: intensive log(mol/L)}'

After an interruption, the same command continues.
"""

import argparse
import json
from pathlib import Path

import yaml
from base_model.orbitals import single_point
from base_model.smiles import molecules
from tqdm import tqdm

from ik_e3nn.cli import main as command
from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.models import base_model_path, read_model_info
from ik_e3nn.pictures import picture

SIZES = (75, 150, 300)
TEST = 200
TARGETS = {"gap": "intensive eV", "dipole": "dipole_norm D"}


def make_csv(path: Path, names: list[str]) -> None:
    """Write a table of SMILES and properties, unless it exists."""
    if not path.exists() or len(path.read_text().splitlines()) < len(names) + 1:
        rows = ["smiles,gap,dipole"]
        for name in tqdm(names, desc=path.name, unit="molecule"):
            values = single_point(molecule_from_smiles(name), "GFN2-xTB")
            rows.append(f"{name},{values['gap']:.5f},{values['mu']:.5f}")
        path.write_text("\n".join(rows) + "\n")


def scratch_model() -> dict[str, object]:
    """The architecture of the base model, as settings of a model of properties."""
    config = read_model_info(base_model_path())["config"]
    potential = {name: value for name, value in config.items() if name not in ("species", "r_max")}
    return {"edges": "radius", "r_max": config["r_max"], "potential": potential}


def learn(start: str, size: int, data: dict[str, object], minutes: float, folder: Path) -> Path:
    """Train once, with validation on a tenth of the molecules, and return the folder."""
    run = folder / f"{start}_{size}"
    config = {
        "data": {**data, "valid": 0.1, "train_size": round(0.9 * size)},
        "run": {"output": str(run), "max_epochs": 10_000, "max_minutes": minutes, "batch_size": 8},
    }
    words = ["finetune", start]
    if start == "scratch":
        words, config["model"] = ["train"], scratch_model()
    file = folder / f"{run.name}.yaml"
    file.write_text(yaml.safe_dump(config))
    if command([*words, str(file), *(["--resume"] if run.exists() else [])]):
        raise SystemExit(f"the training of {file} failed")
    return run


def draw(errors: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """Draw the learning curve of every target."""
    names = [name for name in next(iter(next(iter(errors.values())).values())) if "_mae" in name and name[:4] != "mean"]
    with picture(path, 1, len(names)) as (_, [panels]):
        for axes, name in zip(panels, names, strict=True):
            for start, by_size in errors.items():
                axes.plot(list(by_size), [one[name] for one in by_size.values()], "o-", label=start)
            target, _, unit = name.partition("_mae")
            axes.set(xscale="log", yscale="log", xlabel="molecules", title=target)
            axes.set(ylabel=f"MAE ({unit[1:]})" if unit else "MAE")
            sizes = sorted({size for by_size in errors.values() for size in by_size})
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.legend()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("labels_output"))
    parser.add_argument("--minutes", type=float, default=0.8, help="minutes of every training")
    parser.add_argument("--csv", type=Path, help="your own molecules, with a column `smiles`")
    parser.add_argument("--targets", type=yaml.safe_load, help="kind and unit of each column, as in a configuration")
    parser.add_argument("--base", choices=("base", "base-properties"), help="the potential, or the model of properties")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=SIZES,
        help="numbers of molecules, each 75 or more, so that all elements occur",
    )
    args = parser.parse_args()
    if (args.csv is None) != (args.targets is None):
        parser.error("give --csv and --targets together: the file, and the kind and unit of its columns")
    args.base = args.base or ("base" if args.csv is None else "base-properties")
    folder = args.output
    folder.mkdir(parents=True, exist_ok=True)
    if args.csv is None:
        names = molecules(2000, seed=1)
        train, test = folder / "train.csv", folder / "test.csv"
        make_csv(test, names[:TEST])
        make_csv(train, names[TEST : TEST + max(args.sizes)])
        data = {"train": str(train), "test": str(test), "targets": TARGETS}
    else:
        train = args.csv
        data = {"train": str(train), "test": 0.2, "targets": args.targets}
    errors: dict[str, dict[int, dict[str, float]]] = {args.base: {}, "scratch": {}}
    for size in args.sizes:
        for start, by_size in errors.items():
            run = learn(start, size, data, args.minutes, folder)
            by_size[size] = json.loads((run / "metrics.json").read_text())["test"]
    (folder / "errors.json").write_text(json.dumps(errors, indent=1))
    draw(errors, folder / "learning_curve.png")
    best = folder / f"{args.base}_{max(args.sizes)}"
    if args.csv is None:
        model, sure, table = (
            str(folder / name) for name in (f"{best.name}/model.safetensors", "sure.safetensors", "predicted.csv")
        )
        (folder / "new.csv").write_text("smiles\n" + "\n".join(names[-50:]) + "\n")
        command(["calibrate", model, str(test), "--train", str(train), "-o", sure, "--overwrite=true"])
        command(["predict", model, str(folder / "new.csv"), "-o", table, "--uncertainty", sure, "--overwrite=true"])
    for start, by_size in errors.items():
        for size, one in by_size.items():
            print(
                f"{start:<10} {size:>4} molecules: ", ", ".join(f"{k} {v:.3g}" for k, v in one.items() if "_mae" in k)
            )
    print(f"{folder / 'learning_curve.png'}; parity plots, model and finetune.md are in {best}")


if __name__ == "__main__":
    main()
