"""A factory of the user's own."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from example_steps import Tamed


def build(task, alpha=1.0):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), Tamed()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    model = Ridge(alpha=alpha) if task == "regression" else LogisticRegression(C=1 / alpha)
    return make_pipeline(columns, model)
