"""Names of the files that a molecular-dynamics run leaves in its folder."""

START = "start.traj"
SETTINGS = "settings.json"
LOG = "log.csv"
TRAJECTORY = "trajectory"
CHECKPOINT = "checkpoint.npz"
LAST_FRAMES = "last_frames.extxyz"
SUMMARY = "summary.json"
ENERGY_PLOT = "energy.png"
TEMPERATURE_PLOT = "temperature.png"
ALL = (
    START, SETTINGS, SUMMARY, LOG, CHECKPOINT, LAST_FRAMES,
    f"{TRAJECTORY}.extxyz", f"{TRAJECTORY}.traj", "final.extxyz", "final.traj", ENERGY_PLOT, TEMPERATURE_PLOT,
)  # fmt: skip
