"""A step of the user's own."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class Tamed(TransformerMixin, BaseEstimator):
    """Large values are pulled in."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.sign(X) * np.log1p(np.abs(X))
