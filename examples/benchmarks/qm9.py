"""QM9: conditions of kernels, learning curves compared with PyG's models, speed, and bonds.

    python examples/benchmarks/qm9.py --data QM9 --work WORK                       # all parts, resumable
    python examples/benchmarks/qm9.py --data QM9 --work WORK --parts flexibility --minutes 2

QM9 is any of the forms that ``ik_e3nn.data.read_qm9`` takes; nothing is downloaded. Finished trainings are kept in the
work folder and skipped. Without a GPU, times are processor times.

* flexibility: HOMO, U0_atom and mu learned together on graphs of covalent bonds; the standard kernel of the paper, an
  implicit kernel with windows on the scale of bonds, + bond type, + both atom types, at equal time. Beside them are
  standard kernels with such windows.
* unequal: the same as in the paper, in small: equal epochs, and more parameters for implicit kernels.
* default: the best of these kernels against the blocks of a potential, all twelve targets, at equal time.
* learning: all twelve targets together, ours against PyG's SchNet and ViSNet in the same loop, for the same time.
* speed: molecules a second in training and inference, and the paper's code on the same graphs.
* bonds: how often bonds perceived from geometries are those of the published SMILES.

Zhdanov et al., NeurIPS 2023, section 5.4.
"""

import argparse
from pathlib import Path

from qm9 import page, runs

from ik_e3nn.memory import keep_freed_memory

HERE = Path(__file__).parent
PARTS = {
    "flexibility": runs.flexibility,
    "unequal": runs.unequal,
    "default": runs.default,
    "learning": runs.learning,
    "speed": runs.speed,
    "bonds": runs.bonds,
}
COMPARED = [(4_000, 4.0), (16_000, 6.0)]
SIZES = [(1_000, 5.0), (4_000, 8.0), (16_000, 12.0)]


def size_and_minutes(text: str) -> tuple[int, float]:
    """4000:8 as (4000, 8.0)."""
    size, _, minutes = text.partition(":")
    return int(size), float(minutes)


def main() -> None:
    """Run the missing parts, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for finished trainings")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of a training of the flexibility figure")
    parser.add_argument("--compared", type=size_and_minutes, nargs="+", default=COMPARED, help="of the part `default`")
    parser.add_argument("--sizes", type=size_and_minutes, nargs="+", default=SIZES, help="training molecules:minutes")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train", type=int, default=4_000, help="molecules of the flexibility figure")
    parser.add_argument("--unequal-train", type=int, default=2_000, help="molecules of its part in small")
    parser.add_argument("--unequal-epochs", type=int, default=4)
    parser.add_argument("--valid", type=int, default=1_000)
    parser.add_argument("--test", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--perceived", type=int, default=5_000, help="molecules whose bonds are perceived")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE / "qm9.md")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    for name in args.parts:
        single = args.work / f"{name}.json"
        results = runs.kept(single, lambda n=name: PARTS[n](args, args.work)) if name in ("speed", "bonds") else None
        page.write({name: results or PARTS[name](args, args.work)}, args.output, args.page)


if __name__ == "__main__":
    main()
