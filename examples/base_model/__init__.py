"""Parts of the recipe of the base model: molecules, frames, checks and card."""
