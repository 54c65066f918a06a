"""DiffLogic: cellular automata made of differentiable logic gates, trained batch-parallel with exact sums."""
