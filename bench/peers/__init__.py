"""Other programs and their recipes, on our weights, to be measured beside ours."""
