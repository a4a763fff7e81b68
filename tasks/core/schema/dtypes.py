"""The types in which a pipeline sees its rows, where the model's file asks for those of pandas.

This is the one place where they are made: just before a fit and before a question. All that is measured, stored and
compared beside the pipeline stays float64 and text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.data.arrow import EXACT

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.schema.contract import Column, Contract


def as_seen(contract: Contract, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of contract columns in the types that the contract says; as it is where it says none.

    Integers are int64, booleans bool, both as long as nothing is missing; names are categories in the contract's order,
    and those that it does not list are missing. What was converted before stays as it is.
    """
    converted = {column.name: _as_type(column, frame[column.name]) for column in contract.features if column.dtype}
    return frame.assign(**converted) if converted else frame


def _as_type(column: Column, values: pd.Series) -> pd.Series:
    import numpy as np
    import pandas as pd

    if column.dtype == "category":
        levels = pd.Index(list(column.categories or ()), dtype=object)
        return pd.Series(pd.Categorical.from_codes(levels.get_indexer(values), levels), index=values.index)
    if column.kind == "boolean":
        missing = values.isna()
        if not values[~missing].isin([0, 1]).all():  # beyond what training had: nothing to call true or false
            return values
        if column.dtype == "bool" and not missing.any():
            return values.astype(bool)
        return values.astype(object).where(missing, values == 1).where(~missing, np.nan)
    if column.dtype == "int64" and (values.abs() < EXACT).all() and (values == np.floor(values)).all():
        return values.astype("int64")
    return values
