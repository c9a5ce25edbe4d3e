"""The patients of three clinics, made with a seed: for simulations."""

import numpy as np

CLINICS = {"north": (1958, 58.0), "south": (1199, 51.0), "west": (843, 60.0)}  # how many patients, and their mean age


def patients():
    """Return one array for each column, each of 4,000 patients; every twentieth blood pressure is missing."""
    dice = np.random.default_rng(20)
    clinic = np.repeat(list(CLINICS), [count for count, _ in CLINICS.values()])
    middle = np.repeat([age for _, age in CLINICS.values()], [count for count, _ in CLINICS.values()])
    sex = np.where(dice.random(len(clinic)) < 0.55, "f", "m")
    age = np.clip(dice.normal(middle, 20), 18, 94).round()
    pressure = (95 + 0.5 * age + dice.normal(0, 12, len(age))).round()
    pressure[dice.random(len(age)) < 0.05] = np.nan
    glucose = (80 + 0.3 * age + 4 * (sex == "m") + dice.gamma(2, 6, len(age))).round(1)
    return {"clinic": clinic, "sex": sex, "age": age, "pressure": pressure, "glucose": glucose}
