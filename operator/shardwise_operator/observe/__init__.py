"""From what the API server tells of Jobs and pods to what the plan speaks of: pure, and compact enough to keep."""
