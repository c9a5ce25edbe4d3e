"""The patients of three hospitals, made with a seed from a known hazard: for simulations."""

import numpy as np

HOSPITALS = {"north": 1500, "south": 900, "west": 600}


def patients():
    """Return one array for each column, of 3,000 patients.

    The hazard is 0.05 a month for a patient of mean age on placebo; the drug multiplies it by exp(-0.5), and ten more
    years by exp(0.3). Patients leave the study after 5 to 60 months.
    """
    dice = np.random.default_rng(37)
    count = sum(HOSPITALS.values())
    hospital = np.repeat(list(HOSPITALS), list(HOSPITALS.values()))
    age, treated = dice.normal(60, 10, count).round(), dice.random(count) < 0.5
    death = dice.exponential(1 / (0.05 * np.exp(0.03 * (age - 60) - 0.5 * treated)))
    leaves = dice.uniform(5, 60, count)
    return {
        "hospital": hospital,
        "arm": np.where(treated, "drug", "placebo"),
        "age": age,
        "months": np.ceil(np.minimum(death, leaves)),
        "died": (death <= leaves).astype(np.int64),
    }
