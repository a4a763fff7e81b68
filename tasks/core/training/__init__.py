"""How a challenger comes to be: fit, holdout, gate, proof."""

# Every stored version names its factory; this name is in all that were made with the default one.
from tasks.core.training.factory import tabular as tabular
