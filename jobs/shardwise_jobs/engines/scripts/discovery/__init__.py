"""From a tree, a config and settings to the list of jobs that is run, frozen."""
