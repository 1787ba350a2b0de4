"""Templates of search configs and recipes, copied out by `nas-compress init`."""
