"""What a trained circuit leaves: parameters, a pruned netlist, pictures and a film."""
