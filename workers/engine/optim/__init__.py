"""How images move: L-BFGS and Adam, without a look at the network."""
