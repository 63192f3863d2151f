"""The CPU runtime of a trained model: NumPy arrays and compiled kernels, without torch, for one history at a time."""
