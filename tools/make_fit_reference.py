"""The best fits there are of the curve of arXiv 2508.03616: truth for tests/sweep_tables.rs.

    python tools/make_fit_reference.py

Writes tests/fits_reference.json: steps and values of made-up trajectories, and the least residual sum
of squares that scipy finds for f(t) = A exp(-lambda x) ln x + K, x = gamma t + t0, all of lambda, gamma
and t0 above zero: a global search (differential evolution over their logarithms, A and K by linear
regression), followed by least_squares over all five, from several seeds. Values are the curve's with
noise, or no curve of this kind at all.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import differential_evolution, least_squares

OUT = Path(__file__).resolve().parent.parent / "tests" / "fits_reference.json"
# lambda, gamma x last step, t0: the ranges that massact searches.
BOUNDS = np.log([(1e-6, 1e2), (1e-3, 1e6), (1e-6, 1e2)])
PYTHIA = [0] + [2**power for power in range(10)] + [1000 * k for k in range(1, 144)]
SEEDS = 4


def curve(t, a, lam, gamma, t0, k):
    x = gamma * np.asarray(t, dtype=float) + t0
    return a * np.exp(-lam * x) * np.log(x) + k


def cases():
    random = np.random.default_rng(8)
    noisy = lambda values, share: values * (1 + share * random.standard_normal(len(values)))
    steps = np.array(PYTHIA, dtype=float)
    # As published for the median of layer 0 of Pythia-410M.
    median = (0.1991413262927913, 0.1245164347289605, 0.00011243504071098889, 0.6212193145868949, 0.12193486521476592)
    yield "published, 2 % noise", PYTHIA, noisy(curve(steps, *median), 0.02)
    yield "peak and decay, 5 % noise", PYTHIA, noisy(curve(steps, 2400.0, 0.35, 2.5e-4, 0.95, 180.0), 0.05)
    yield "growth without end, 3 % noise", PYTHIA, noisy(curve(steps, 310.0, 1e-4, 3e-3, 1.2, 20.0), 0.03)
    yield "falls", PYTHIA, noisy(curve(steps, -40.0, 0.05, 1e-4, 0.5, 60.0), 0.02)
    yield "ratios of 1e5", PYTHIA, noisy(curve(steps, 2.1e5, 0.2, 1e-4, 0.8, 5e4), 0.1)
    late = [500 * k for k in range(1, 11)]
    yield "ten late checkpoints", late, noisy(curve(late, 900.0, 0.3, 1e-3, 0.4, 30.0), 0.03)
    few = [1, 10, 100, 1000, 10000, 100000]
    yield "six", few, [3.1, 3.0, 4.2, 80.0, 900.0, 1200.0]
    yield "emergence, no curve of this kind", PYTHIA, noisy(5 + 1500 / (1 + np.exp(-(steps - 3e4) / 4e3)), 0.03)
    yield "noise alone", PYTHIA, 10 + random.standard_normal(len(PYTHIA))
    tokens = [2.5e9 * k for k in range(1, 41)]
    yield "tokens instead of steps", tokens, noisy(curve(tokens, 60.0, 0.1, 2e-10, 0.7, 5.0), 0.02)
    yield "a straight line", late, [2.0 + 1e-3 * t for t in late]


def best(steps, values):
    t, y = np.array(steps, dtype=float), np.array(values, dtype=float)
    last, scale = t.max(), np.abs(y - y.mean()).max()
    s, z = t / last, (y - y.mean()) / scale

    def shape(logs):
        lam, gamma, t0 = np.exp(logs)
        x = gamma * s + t0
        with np.errstate(under="ignore"):
            return np.exp(-lam * x) * np.log(x)

    def residuals(logs):
        g = shape(logs)
        centred = g - g.mean()
        square = centred @ centred
        a = centred @ z / square if square > 0 else 0.0
        return (z - z.mean()) - a * centred

    rss = lambda logs: float(residuals(logs) @ residuals(logs))
    least = float(z @ z)
    for seed in range(SEEDS):
        found = differential_evolution(rss, BOUNDS, seed=seed, popsize=40, maxiter=2000, tol=1e-12, polish=False)
        polished = least_squares(residuals, found.x, bounds=BOUNDS.T, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=5000)
        least = min(least, found.fun, rss(polished.x))
    return least * scale**2, 1 - least / float(z @ z)


def main():
    rows = []
    for name, steps, values in cases():
        values = [float(value) for value in values]
        rss, r2 = best(steps, values)
        print(f"{name}: r2 {r2:.9f}")
        rows.append({"name": name, "steps": [float(t) for t in steps], "values": values, "rss": rss, "r2": r2})
    OUT.write_text(json.dumps({"cases": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
