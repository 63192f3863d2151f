"""The assembled method: a recommender that reasons, and the bundle that serving loads."""
