"""How often the interval of an error rate holds the truth, beside plain bootstrap percentiles.

Utterances of 4 to 15 words; each has an error rate of its own, from a beta distribution: most are
heard well, a few badly. Prints one row for each setting: `python benchmarks/wer_coverage.py`.
"""

from __future__ import annotations

import argparse

import numpy as np

from evalsuite.metrics.text.wer import word_errors

SHAPES = ((0.3, 9.0), (0.9, 8.1))
SIZES = (10, 30, 100)


def percentiles(errors: np.ndarray, words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(words)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=400)
    return np.quantile(weights @ errors / (weights @ words), [0.025, 0.975])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print("| true WER | utterances | covers | percentiles cover |\n|---|---|---|---|")
    rng = np.random.default_rng(7)
    for a, b in SHAPES:
        truth = a / (a + b)
        for n in SIZES:
            ours = theirs = 0
            for seed in range(runs):
                words = rng.integers(4, 16, n)
                errors = rng.binomial(words, rng.beta(a, b, n))
                said = [" ".join(["a"] * w) for w in words]
                heard = [
                    " ".join(["b"] * e + ["a"] * (w - e))
                    for w, e in zip(words, errors, strict=True)
                ]
                interval = word_errors(said, heard, normaliser="none", seed=seed).interval
                assert interval is not None
                ours += truth in interval
                low, high = percentiles(errors, words, rng)
                theirs += low <= truth <= high
            print(f"| {truth:.3f} | {n} | {ours / runs:.3f} | {theirs / runs:.3f} |", flush=True)


if __name__ == "__main__":
    main()
