"""Does correction help, and does the tool say so when it does not? On photographs of solar cells.

Real data, the set that the synthetic one is made of, and the judge are three disjoint samples. The
labels are the kinds of the modules, mono- and polycrystalline.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evalsuite.correct import CorrectionResult, correct
from evalsuite.data import open_dataset
from evalsuite.encoders import Encoded, FeatureCache, encode
from evalsuite.generators import Corrupt, Item, Noise, generate_folder, produce
from evalsuite.metrics.utility.probes import utility_tests
from evalsuite.pipeline.demo import cells, write_folder

from ._machine import machine, write

ENCODER = "efficientnet_lite0"
REAL, SYNTHETIC = 300, 150
SEED = 0
Photograph = tuple[Path, str]


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    using: tuple[str, ...]
    make: Callable[[Sequence[Photograph], Path], None]


def _items(photographs: Sequence[Photograph]) -> list[Item]:
    return [Item(id=p.stem, image=Image.open(p).convert("L"), label=k) for p, k in photographs]


def _write(items: Sequence[Item], folder: Path) -> None:
    from evalsuite.generators import Identity

    generate_folder(Identity(), items, folder, seed=SEED)


def dark_exposure(photographs: Sequence[Photograph], folder: Path) -> None:
    """Darker and slightly blurred; nothing is lost but contrast."""
    made = []
    for item in _items(photographs):
        image, _ = produce(Corrupt("gaussian_blur", 1), item, seed=SEED)
        image = image.point(lambda v: round(0.6 * v))
        made.append(Item(id=item.id, image=image, label=item.label))
    _write(made, folder)


def faulty_camera(photographs: Sequence[Photograph], folder: Path) -> None:
    """Darker, slightly blurred, with sensor noise of 3 grey levels."""
    made = []
    for k, item in enumerate(_items(photographs)):
        image, _ = produce(Corrupt("gaussian_blur", 1), item, seed=SEED)
        noise = np.random.default_rng([SEED, k]).normal(0, 3, (image.height, image.width))
        x = 0.6 * np.asarray(image, float) + noise
        image = Image.fromarray(np.clip(np.rint(x), 0, 255).astype(np.uint8))
        made.append(Item(id=item.id, image=image, label=item.label))
    _write(made, folder)


def strong_noise(photographs: Sequence[Photograph], folder: Path) -> None:
    """Noise of a standard deviation of 20 grey levels: detail is lost under it."""
    generate_folder(Corrupt("gaussian_noise", 1), _items(photographs), folder, seed=SEED)


def dropped_kind(photographs: Sequence[Photograph], folder: Path) -> None:
    """Good photographs of one kind of module only."""
    _write(_items([p for p in photographs if p[1] == "poly"]), folder)


def contaminated(photographs: Sequence[Photograph], folder: Path) -> None:
    """Two thirds good photographs, one third with the pixels shuffled."""
    items = _items(photographs)
    bad = [
        Item(id=i.id, image=produce(Noise("shuffle"), i, seed=SEED)[0], label=i.label)
        for i in items[::3]
    ]
    spoilt = {b.id for b in bad}
    _write([*bad, *(i for i in items if i.id not in spoilt)], folder)


CASES = (
    Case("dark exposure", "darker, slightly blurred", ("auto",), dark_exposure),
    Case("faulty camera", "darker, slightly blurred, noise of 3 levels", ("auto",), faulty_camera),
    Case("strong noise", "noise of 20 grey levels", ("auto",), strong_noise),
    Case("dropped kind", "good cells of one kind only", ("auto",), dropped_kind),
    Case("contaminated", "a third of the images shuffled", ("on_manifold",), contaminated),
)


def _encoded(folder: Path) -> Encoded:
    return encode(
        open_dataset(folder), [ENCODER], cache=FeatureCache(), progress=False, thumbnails=False
    )


def _trained(folder: Path, judge: Encoded, calibration: Encoded) -> dict[str, str]:
    """Balanced accuracy on the judge half after training on the set, with its interval."""

    def labelled(found: Encoded) -> tuple[np.ndarray, list[str]]:
        return found.features[ENCODER], [str(s.label) for s in found.samples]

    report = utility_tests(
        labelled(calibration), labelled(_encoded(folder)), labelled(judge), sizes=[1], repeats=1
    )
    return {
        probe: f"{u.tstr.value:.3f} [{u.tstr.interval.low:.3f}, {u.tstr.interval.high:.3f}]"
        for probe, u in report.probes.items()
    } | {"real": f"{report.probes['linear'].trtr.value:.3f}"}


def _gap(result: CorrectionResult, metric: str, *, second: bool) -> str:
    for c in result.comparisons:
        if c.metric == metric and c.second is second:
            return f"{c.before:.3f} → {c.after:.3f} ({c.outcome})"
    return "not measured"


def main() -> None:
    photographs = cells()
    order = np.random.default_rng(SEED).permutation(len(photographs))
    chosen = [photographs[i] for i in order]
    rows = []
    details = []
    with tempfile.TemporaryDirectory() as tmp:
        home = Path(tmp)
        real = write_folder(chosen[:REAL], home / "real")
        for case in CASES:
            print(f"-- {case.name}", flush=True)
            synthetic = home / case.name / "synthetic"
            case.make(chosen[REAL : REAL + SYNTHETIC], synthetic)
            out = home / case.name / "out"
            result = correct(real, synthetic, out=out, using=case.using, progress=False)
            judge, calibration = (_encoded(out / "real" / n) for n in ("judge", "calibration"))
            before = _trained(synthetic, judge, calibration)
            corrected = out / "corrected"
            after = _trained(corrected, judge, calibration) if corrected.exists() else None
            done = [c["name"] for c in result.corrections] + [n for n, _ in result.selections]
            rows.append(
                {
                    "case": case.name,
                    "what": case.what,
                    "asked": ", ".join(case.using),
                    "blamed": ", ".join(f"{d.attribute} {d.effect:.2g}" for d in result.drifted[:4])
                    or "nothing readable",
                    "applied": ", ".join(done) or "nothing",
                    "gate": f"{result.verdict_before} → {result.verdict_after or 'not run'}",
                    "frechet": _gap(result, "frechet_distance", second=False),
                    "kid": _gap(result, "kid", second=False),
                    "second_kid": _gap(result, "kid", second=True),
                    "tstr_linear": f"{before['linear']} → {after['linear'] if after else '–'}",
                    "tstr_knn": f"{before['knn']} → {after['knn'] if after else '–'}",
                    "trtr_linear": before["real"],
                    "verdict": "improved" if result.improved else "NOT improved",
                    "why": "; ".join(result.reasons[:3]),
                }
            )
            text = (out / "summary.md").read_text("utf-8")
            details.append(text.replace("\n## ", "\n### ").replace("# ", f"## {case.name}: ", 1))
            print(rows[-1], flush=True)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write("correction/solar.csv", buffer.getvalue())
    write("correction/solar.md", _page(rows, details))


def _page(rows: list[dict[str, str]], details: list[str]) -> str:
    shown = {
        "case": "case",
        "what": "fault",
        "blamed": "what the report blames (real sd)",
        "applied": "applied",
        "gate": "gate",
        "kid": f"KID gap, {ENCODER}",
        "second_kid": "KID gap, second look",
        "tstr_linear": "trained on it, linear probe",
        "tstr_knn": "trained on it, k-NN",
        "verdict": "the tool says",
    }
    lines = [
        "# Correction on solar cells",
        "",
        f"{REAL} real photographs, dealt into a half to fit on and a half to judge on; {SYNTHETIC} "
        "others from which each faulty set is made. A correction counts as an improvement where "
        "the distance to the judge half falls beyond its interval in the policy's encoder and in "
        "the second look (random convolutions, in which nothing is fitted), and nothing gets "
        "worse. `trained on it`: balanced accuracy on the judge half of a probe of the module's "
        "kind trained on the synthetic set, before and after, with its 95 % interval; trained on "
        f"the real calibration half the linear probe has {rows[0]['trtr_linear']}.",
        "",
        "| " + " | ".join(shown.values()) + " |",
        "|" + "---|" * len(shown),
        *("| " + " | ".join(row[key] for key in shown) + " |" for row in rows),
        "",
        *(f"- {row['case']}: {row['verdict']}. {row['why']}." for row in rows),
        "",
        *details,
        f"Made by `python -m benchmarks correction` on {machine()}.",
        "",
    ]
    return "\n".join(lines)
