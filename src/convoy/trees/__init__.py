"""Decision trees in a federation: what a trainer answers, and what becomes of a model of trees afterwards."""

from convoy.trees.boosters import boost, booster, save_xgboost
from convoy.trees.forest import forest
from convoy.trees.predict import evaluate, predict
from convoy.trees.site import histograms

__all__ = ["boost", "booster", "evaluate", "forest", "histograms", "predict", "save_xgboost"]
