"""Many runs: grids, searches, and the workers that share them."""
