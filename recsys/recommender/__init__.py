"""The assembled recommender, and the bundle that serving loads."""
