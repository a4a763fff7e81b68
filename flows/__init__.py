"""Prefect flows and the command line.

OpenMP reads its environment once, when scikit-learn loads it, so this comes first. By default the threads of a team
wait for one another busily: where something else wants a core of theirs, a fit of a tenth of a second takes as long as
a minute.
"""

import os

from retrain_or_reload import stranger

if said := stranger():  # also where a worker of Prefect's, and not `ror`, begins here
    raise ImportError(said)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
