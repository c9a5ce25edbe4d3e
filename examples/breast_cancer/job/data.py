"""The Wisconsin breast-cancer data that scikit-learn brings along, for simulations."""


def patients():
    """Return `x` (569, 30) measurements and `y` (569,) labels, 1.0 for malignant."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return data.data, (data.target == 0).astype(float)
