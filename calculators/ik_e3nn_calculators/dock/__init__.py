"""Search for poses of a molecule over a surface or in a site: place, relax in batches, cluster, rank."""

from ik_e3nn_calculators.dock.run import DockSummary, run_dock
from ik_e3nn_calculators.dock.settings import DockSettings, RegionSettings

__all__ = ["DockSettings", "DockSummary", "RegionSettings", "run_dock"]
