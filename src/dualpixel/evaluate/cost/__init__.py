"""What a network costs: parameters, multiply-accumulates, time and memory, beside what papers print."""
