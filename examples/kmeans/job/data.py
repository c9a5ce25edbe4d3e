"""The customers of three shops, made with a seed in four groups: for simulations."""

import numpy as np

SHOPS = {"harbour": 700, "station": 500, "village": 400}
GROUPS = {"visits": (2, 12, 5, 20), "basket": (80, 15, 40, 60), "age": (45, 22, 70, 38)}  # the mean of each group


def customers():
    """Return one array for each column, of 1,600 customers."""
    dice = np.random.default_rng(9)
    count = sum(SHOPS.values())
    shop = np.repeat(list(SHOPS), list(SHOPS.values()))
    group = dice.integers(0, 4, count)
    spread = {"visits": 2.0, "basket": 8.0, "age": 6.0}
    made = {name: dice.normal(np.array(means)[group], spread[name]).round(1) for name, means in GROUPS.items()}
    return {"shop": shop, **made}
