"""The pictures of docs/calibration.md, computed by the recursion (no simulation, the same bytes on every run).

    python tests/calibration/calibration_pictures.py docs/calibration

Time is in fixed samples: at 1 a two-sided fixed test at 5 % has 80 % power for the planned effect.
"""

import math
import sys
from pathlib import Path

import numpy as np

from abtest.charts import to_svg
from abtest.charts.base import BLUE, INK, MUTED, TONES, WIDTH, Frame, as_is, finish, layer, text_layer
from abtest.stats import group_sequential, horizon, mixture, recursion

ALPHA = 0.05
DRIFT = 1.959964 + 0.841621  # of the score, a unit of time, at the planned effect
LOOKS = np.arange(1, 161) / 40.0  # anytime: 160 looks to four fixed samples
WITHIN = 1.25 * np.arange(1, 51) / 50  # horizon: 50 looks to 1.25
STYLES = (
    {"colour": TONES["harm"], "dash": [1, 0]},
    {"colour": BLUE, "dash": [1, 0]},
    {"colour": TONES["safe"], "dash": [1, 0]},
    {"colour": MUTED, "dash": [5, 3]},
    {"colour": BLUE, "dash": [5, 3]},
    {"colour": TONES["safe"], "dash": [2, 2]},
)


def plain():
    """Return z-scale bounds of the two-sided normal mixture tuned at the fixed sample."""
    return mixture.boundary(LOOKS, mixture.tuning(1.0, ALPHA), ALPHA) / np.sqrt(LOOKS)


def informed(alternative="two-sided"):
    return mixture.boundary_informed(LOOKS, DRIFT, DRIFT / 3, ALPHA, alternative=alternative) / np.sqrt(LOOKS)


def within():
    rho2 = mixture.tuning(1.0, ALPHA)
    plan = horizon.calibrate_horizon(1.25, rho2, ALPHA, looks=50)
    return mixture.boundary(WITHIN, rho2, ALPHA, log_threshold=plan.log_threshold) / np.sqrt(WITHIN)


def group_sequential_design():
    design = group_sequential.spending_design(np.arange(1, 11) / 10, alpha=ALPHA, power=0.8)
    return np.asarray(design.times) * design.inflation, np.asarray(design.upper)


def mean_stop(times, upper, effect, *, one_sided=False):
    """Return the mean stop; who never stops counts with the last look."""
    first = recursion.crossing_probabilities(times, upper, None if one_sided else -upper, drift=effect * DRIFT)
    return float(first @ times + (1 - first.sum()) * times[-1])


# --- the three pictures ----------------------------------------------------------------------------------------------


def false_alarms():
    """False alarms by number of looks, equally spaced to the fixed sample."""
    counts = [1, 2, 3, 5, 10, 20, 50, 100, 200]
    rho2 = mixture.tuning(1.0, ALPHA)
    peeked, anytime = [], []
    for looks in counts:
        times = np.arange(1, looks + 1) / looks
        peeked.append(100 * float(recursion.crossing_probabilities(times, 1.959964, -1.959964).sum()))
        anytime.append(100 * horizon.crossing_rate(times, rho2, -math.log(ALPHA)))
    lines = {"fixed test, peeked": peeked, "horizon, declared": [5.0] * len(counts), "anytime": anytime}
    words = (
        f"False alarms by number of looks at a nominal 5 %. A fixed test read at every look: {peeked[0]:.0f} % with one look, "
        f"{peeked[4]:.0f} % with 10, {peeked[-1]:.0f} % with 200. A horizon calibrated to the declared looks: 5 % always. "
        f"The anytime test: at most {max(anytime):.1f} %."
    )
    return draw("False alarms by number of looks", words, counts, lines, log=True, x_title="looks", ends=" %")


def stops():
    """Mean stop by effect for the modes."""
    effects = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    times, upper = group_sequential_design()
    two, one, near = plain(), informed("larger"), within()
    lines = {
        "anytime": [mean_stop(LOOKS, two, e) for e in effects],
        "anytime, informed": [mean_stop(LOOKS, informed(), e) for e in effects],
        "fixed": [1.0] * len(effects),
        "harm, informed": [mean_stop(LOOKS, one, e, one_sided=True) for e in effects],
        "group sequential": [mean_stop(times, upper, e) for e in effects],
        "horizon": [mean_stop(WITHIN, near, e) for e in effects],
    }
    at = effects.index(1.0)
    words = "Mean stop, in fixed samples, at the planned effect: " + "; ".join(
        f"{name} {values[at]:.2f}" for name, values in lines.items()
    )
    words += f". At twice the effect: anytime {lines['anytime'][-1]:.2f}, horizon {lines['horizon'][-1]:.2f}."
    return draw("Mean stop by effect", words, effects, lines, x_title="effect, in planned effects")


def bounds():
    """The bounds on the z-scale over time."""
    times, upper = group_sequential_design()
    keep = LOOKS >= 0.1
    grid = LOOKS[keep]

    def at(t, z):
        return [float(np.interp(x, t, z)) if t[0] <= x <= t[-1] else None for x in grid]

    lines = {
        "anytime": plain()[keep].tolist(),
        "anytime, informed": informed()[keep].tolist(),
        "fixed": [1.959964] * len(grid),
        "harm, informed": informed("larger")[keep].tolist(),
        "group sequential": at(times, upper),
        "horizon": at(WITHIN, within()),
    }
    near = int(np.argmin(np.abs(grid - 1)))
    words = "The z-score that stops the test, by time in fixed samples. At 1: " + "; ".join(
        f"{name} {values[near]:.2f}" for name, values in lines.items() if values[near] is not None
    )
    words += ". The group sequential bound starts near 6 and falls to 2; the anytime bounds rise slowly without end."
    return draw(
        "Bounds on the z-scale", words, grid.tolist(), lines, x_title="time, in fixed samples", top=5.0, floor=1.5
    )


def draw(title, words, x, lines, *, x_title, log=False, ends=None, top=None, floor=0.0):
    """Return a chart of lines, named in a legend above; `ends` is the unit of the last values, written beside them."""
    import altair

    records = [
        {"x": a, "y": round(b, 3), "name": name, **style}
        for (name, values), style in zip(lines.items(), STYLES, strict=False)
        for a, b in zip(x, values, strict=True)
        if b is not None and (top is None or b <= top)
    ]
    columns = 2
    head = 16 * math.ceil(len(lines) / columns) + 8
    frame = Frame(width=WIDTH - 74, height=190, left=30, top=head, right=44, bottom=38)
    high = top or max(r["y"] for r in records) * 1.05
    scale = altair.Scale(type="log" if log else "linear", domain=[x[0], x[-1]], nice=False)
    x_axis = altair.Axis(title=x_title, titleColor=INK, titleFontWeight="normal", tickCount=6)
    y_axis = altair.Axis(title=None, tickCount=5)
    marks = layer(records).mark_line(strokeWidth=2, clip=True)
    chart = marks.encode(
        x=altair.X("x:Q", scale=scale, axis=x_axis),
        y=altair.Y("y:Q", scale=altair.Scale(domain=[floor, high], nice=False), axis=y_axis),
        detail="name:N",
        color=as_is("colour"),
        strokeDash=as_is("dash"),
    )
    legend, strokes = [], []
    for i, (name, style) in enumerate(zip(lines, STYLES, strict=False)):
        px, py = (i % columns) * 160, 8 + 16 * (i // columns) - head
        strokes += [{"px": px + d, "py": py, "name": name, **style} for d in (0, 22)]
        legend.append({"px": px + 28, "py": py, "text": name, "colour": INK})
    numbers = [
        {
            "px": frame.width + 4,
            "py": frame.height * (high - values[-1]) / (high - floor),
            "text": f"{values[-1]:.3g}{ends}",
            "colour": style["colour"],
        }
        for values, style in zip(lines.values(), STYLES, strict=False)
        if ends is not None
    ]
    keys = layer(strokes).mark_line(strokeWidth=2).encode(
        x=altair.X("px:Q", scale=None, axis=None), y=altair.Y("py:Q", scale=None, axis=None), detail="name:N",
        color=as_is("colour"), strokeDash=as_is("dash"),
    )  # fmt: skip
    layers = [chart, keys, text_layer(legend), *([text_layer(numbers)] if numbers else [])]
    return finish(layers, frame, title, words)


PICTURES = {"false_alarms": false_alarms, "stops": stops, "bounds": bounds}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, make in PICTURES.items():
        (folder / f"{file}.svg").write_text(to_svg(make()), encoding="utf-8")
